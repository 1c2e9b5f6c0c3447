-- Purpose: is a session open? What a submit asks; sessions/get counts tasks. Parameters: $1 uuid. Zero rows: no such session.
SELECT workspace_id, status FROM agentpool.sessions WHERE id = $1
