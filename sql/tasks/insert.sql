-- Purpose: enqueues one task; NOTIFY rides in the commit. Parameters: $1 uuid session, $2 text agent, $3 text prompt, $4 text
-- model, $5 text mode, $6 text thinking option, $7 jsonb features, $8 int2 priority, $9 timestamptz run at, $10 int4 max failures
-- (nulls: the defaults). Always one row.
INSERT INTO agentpool.tasks (session_id, agent, prompt, model, mode_id, thinking_option_id, feature_values, priority, run_at, max_failures)
VALUES ($1, $2, $3, $4, $5, $6, $7, coalesce($8::int2, 0), $9, coalesce($10::int4, 3)) RETURNING id
