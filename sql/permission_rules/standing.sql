-- Purpose: the rules that hold for one agent in one session. Parameters: $1 uuid session, $2 text agent. Zero rows: none.
SELECT r.id, r.tool, r.pattern, r.exact, r.decision
FROM agentpool.permission_rules r JOIN agentpool.sessions s ON s.id = $1 AND s.workspace_id = r.workspace_id
WHERE (r.session_id IS NULL OR r.session_id = $1) AND (r.agent IS NULL OR r.agent = $2) ORDER BY r.id
