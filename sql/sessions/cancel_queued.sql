-- Purpose: asks to cancel all that is queued in a session. The lane is held, so a task that somebody has locked is an error
-- at once (55P03, try again) and never waited for: the queue would wait behind the lane.
-- Parameters: $1 uuid. Zero rows: nothing was.
WITH queued AS MATERIALIZED (
    SELECT id FROM agentpool.tasks WHERE session_id = $1 AND status = 'queued' FOR UPDATE NOWAIT
)
UPDATE agentpool.tasks t SET cancel_requested_at = coalesce(t.cancel_requested_at, clock_timestamp())
FROM queued WHERE t.id = queued.id
