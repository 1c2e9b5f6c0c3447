-- Purpose: how much is queued and how much runs, the one from an index that holds only what is queued, the other from the
-- lanes: each leased one runs a task; and how long the oldest has been due, in seconds. Parameters: none. Always one row.
SELECT (SELECT count(*) FROM agentpool.tasks WHERE status = 'queued') AS queued,
       (SELECT count(*) FROM agentpool.lanes WHERE state = 2) AS running,
       coalesce((SELECT extract(epoch FROM clock_timestamp() - min(greatest(created_at, run_at))) FROM agentpool.tasks
                 WHERE status = 'queued' AND coalesce(run_at <= clock_timestamp(), true)), 0)::float8 AS oldest_secs
