-- Purpose: requests, newest first. Parameters: $1 bool all (else only pending ones), $2 uuid session or null,
-- $3 uuid before this one or null, $4 int8 how many. Zero rows: none.
SELECT id, session_id, task_id, agent, kind, title, payload, status, answer, answered_by, repeats, deadline, created_at
FROM agentpool.permission_requests WHERE ($1 OR status = 'pending') AND ($2::uuid IS NULL OR session_id = $2) AND ($3::uuid IS NULL OR id < $3)
ORDER BY id DESC LIMIT $4
