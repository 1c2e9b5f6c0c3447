-- Purpose: keeps the row of a conversation true when a turn begins. A new conversation forgets the old one's poison.
-- Parameters: $1 uuid session, $2 text agent, $3 text backend, $4 text agent's id, $5 int4 port or null, $6 text status,
-- $7 uuid node, $8 text config hash. Always one row.
INSERT INTO agentpool.agent_sessions AS a (session_id, agent, backend, agent_session_id, server_port, status, node_id, config_hash, last_active_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, clock_timestamp())
ON CONFLICT (session_id, agent) DO UPDATE
SET backend = excluded.backend, agent_session_id = excluded.agent_session_id, server_port = excluded.server_port,
    status = excluded.status, node_id = excluded.node_id, config_hash = excluded.config_hash,
    poisoned_reason = CASE WHEN a.agent_session_id IS DISTINCT FROM excluded.agent_session_id THEN NULL ELSE a.poisoned_reason END,
    last_active_at = clock_timestamp()
