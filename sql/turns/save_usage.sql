-- Purpose: what the turn cost; sums it up in the conversation too. The lane is held. Parameters: $1 uuid task, $2 int8
-- fence, $3 text agent, $4 text model, $5..$9 int8 input, output, reasoning, cache read, cache write tokens, $10 float8
-- dollars, $11 uuid session. Zero rows: there is no conversation yet.
WITH kept AS (
    INSERT INTO agentpool.task_usage (task_id, fence, agent, model, input_tokens, output_tokens, reasoning_tokens,
                                      cache_read_tokens, cache_write_tokens, cost_usd)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
    ON CONFLICT (task_id, fence, model) DO NOTHING
    RETURNING input_tokens, output_tokens, cost_usd
)
UPDATE agentpool.agent_sessions a
SET input_tokens = a.input_tokens + kept.input_tokens, output_tokens = a.output_tokens + kept.output_tokens,
    cost_usd = a.cost_usd + kept.cost_usd, turns = a.turns + 1
FROM kept WHERE a.session_id = $11 AND a.agent = $3
