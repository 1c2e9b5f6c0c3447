-- Purpose: a task of the session that has begun and not ended: its next try would start from its own checkpoint. Parameters: $1 uuid
-- session. Zero rows: there is none.
SELECT t.id FROM agentpool.tasks t
WHERE t.session_id = $1 AND t.status IN ('queued', 'dispatched', 'running')
  AND EXISTS (SELECT FROM agentpool.checkpoints c WHERE c.task_id = t.id AND c.kind = 'before') LIMIT 1
