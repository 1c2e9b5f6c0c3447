-- Purpose: asks to cancel; the engine does the rest. Asking twice is asking once. Parameters: $1 uuid task.
-- Zero rows: unknown, or ended already.
UPDATE agentpool.tasks SET cancel_requested_at = coalesce(cancel_requested_at, clock_timestamp())
WHERE id = $1 AND status IN ('queued', 'dispatched', 'running') RETURNING id
