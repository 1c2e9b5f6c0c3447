-- Purpose: the conversations that ended with their session, for whoever closes it again. Parameters: $1 uuid.
-- Zero rows: there were none.
SELECT agent, backend, agent_session_id, node_id
FROM agentpool.agent_sessions WHERE session_id = $1 AND status = 'closed' ORDER BY agent
