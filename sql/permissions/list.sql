-- Purpose: requests, newest first. Parameters: $1 bool all (else only pending ones), $2 int8 how many. Zero rows: none.
SELECT id, session_id, task_id, agent, kind, title, payload, status, answer, answered_by, repeats, deadline, created_at
FROM agentpool.permission_requests WHERE $1 OR status = 'pending' ORDER BY id DESC LIMIT $2
