-- Purpose: one request. Parameters: $1 uuid. Zero rows: no such request.
SELECT id, session_id, task_id, agent, kind, title, payload, status, answer, answered_by, repeats, deadline, created_at,
       (SELECT s.workspace_id FROM agentpool.sessions s WHERE s.id = p.session_id) AS workspace_id
FROM agentpool.permission_requests p WHERE id = $1
