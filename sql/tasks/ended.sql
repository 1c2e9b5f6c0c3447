-- Purpose: how a task ended, without its texts: what a stream asks at every wake. Parameters: $1 uuid task.
-- Zero rows: unknown, or not ended yet.
SELECT status, failure_reason, error FROM agentpool.tasks
WHERE id = $1 AND status IN ('completed', 'failed', 'cancelled')
