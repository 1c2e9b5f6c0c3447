-- Purpose: asks to cancel all that is queued in a session. Parameters: $1 uuid. Zero rows: nothing was.
UPDATE agentpool.tasks SET cancel_requested_at = coalesce(cancel_requested_at, clock_timestamp())
WHERE session_id = $1 AND status = 'queued'
