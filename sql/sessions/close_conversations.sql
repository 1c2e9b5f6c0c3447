-- Purpose: the conversations end with their session. Parameters: $1 uuid. Zero rows: there were none.
UPDATE agentpool.agent_sessions SET status = 'closed' WHERE session_id = $1 AND status <> 'closed'
RETURNING agent, backend, agent_session_id, node_id
