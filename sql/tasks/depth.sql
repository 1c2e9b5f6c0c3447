-- Purpose: how much is queued and how much runs, the one from an index that holds only what is queued, the other from the
-- lanes: each leased one runs a task. Parameters: none. Always one row.
SELECT (SELECT count(*) FROM agentpool.tasks WHERE status = 'queued') AS queued,
       (SELECT count(*) FROM agentpool.lanes WHERE state = 2) AS running
