-- Purpose: requests, newest first. Parameters: $1 bool all (else only pending ones), $2 uuid session or null,
-- $3 uuid before this one or null, $4 uuid workspace or null, $5 int8 how many. Zero rows: none.
SELECT id, session_id, task_id, agent, kind, title, payload, status, answer, answered_by, repeats, deadline, created_at,
       (SELECT s.workspace_id FROM agentpool.sessions s WHERE s.id = p.session_id) AS workspace_id
FROM agentpool.permission_requests p WHERE ($1 OR status = 'pending') AND ($2::uuid IS NULL OR session_id = $2) AND ($3::uuid IS NULL OR id < $3)
  AND ($4::uuid IS NULL OR EXISTS (SELECT FROM agentpool.sessions s WHERE s.id = p.session_id AND s.workspace_id = $4))
ORDER BY id DESC LIMIT $5
