-- Purpose: one request. Parameters: $1 uuid. Zero rows: no such request.
SELECT id, session_id, task_id, agent, kind, title, payload, status, answer, answered_by, repeats, deadline, created_at
FROM agentpool.permission_requests WHERE id = $1
