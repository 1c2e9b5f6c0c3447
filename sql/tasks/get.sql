-- Purpose: one task whole, with its lane. Parameters: $1 uuid. Zero rows: no such task.
SELECT t.id, t.session_id, t.agent, t.prompt, t.model, t.priority, t.run_at, t.status, t.attempt, t.failures, t.max_failures,
       t.cancel_requested_at, t.output, t.error, t.failure_reason, t.created_at, t.started_at, t.finished_at,
       (SELECT s.last_pos FROM agentpool.session_streams s WHERE s.session_id = t.session_id) AS last_pos, t.retry_of,
       (SELECT s.workspace_id FROM agentpool.sessions s WHERE s.id = t.session_id) AS workspace_id
FROM agentpool.tasks t WHERE t.id = $1
