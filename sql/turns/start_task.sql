-- Purpose: dispatched becomes running. The lane is held, so a row that somebody has locked is not waited for (renewals
-- would wait behind the lane): such a task stays `dispatched` until its end, which either status allows.
-- Parameters: $1 uuid task. Zero rows: it runs already, or it is locked.
WITH free AS MATERIALIZED (
    SELECT id FROM agentpool.tasks WHERE id = $1 AND status = 'dispatched' FOR UPDATE SKIP LOCKED
)
UPDATE agentpool.tasks t SET status = 'running', started_at = coalesce(t.started_at, clock_timestamp())
FROM free WHERE t.id = free.id
