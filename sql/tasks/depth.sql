-- Purpose: how much is queued and how much runs. Parameters: none. Always one row.
SELECT count(*) FILTER (WHERE status = 'queued') AS queued, count(*) FILTER (WHERE status <> 'queued') AS running
FROM agentpool.tasks WHERE status IN ('queued', 'dispatched', 'running')
