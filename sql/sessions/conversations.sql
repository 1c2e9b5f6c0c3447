-- Purpose: the conversations of a session. Parameters: $1 uuid session. Zero rows: none yet.
SELECT agent, backend, agent_session_id, server_port, status, poisoned_reason, turns, input_tokens, output_tokens, cost_usd, last_active_at
FROM agentpool.agent_sessions WHERE session_id = $1 ORDER BY agent
