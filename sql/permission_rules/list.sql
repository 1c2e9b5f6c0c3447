-- Purpose: rules, newest first. Parameters: $1 uuid rule or null, $2 uuid session or null, $3 text agent or null, $4 uuid before
-- this one or null, $5 uuid workspace or null, $6 int8 how many. Zero rows: none.
SELECT id, workspace_id, session_id, agent, tool, pattern, exact, decision, created_at, created_by
FROM agentpool.permission_rules
WHERE ($1::uuid IS NULL OR id = $1) AND ($2::uuid IS NULL OR session_id = $2) AND ($3::text IS NULL OR agent = $3)
  AND ($4::uuid IS NULL OR id < $4) AND ($5::uuid IS NULL OR workspace_id = $5)
ORDER BY id DESC LIMIT $6
