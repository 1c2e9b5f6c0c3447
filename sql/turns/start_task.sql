-- Purpose: dispatched becomes running. The lane is held. Parameters: $1 uuid task. Zero rows: it runs already.
UPDATE agentpool.tasks SET status = 'running', started_at = coalesce(started_at, clock_timestamp())
WHERE id = $1 AND status = 'dispatched'
