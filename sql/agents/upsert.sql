-- Purpose: makes a configured agent known to the table that plain SQL inserts are checked against. Parameters: $1 text name,
-- $2 text backend, $3 text default model or null. Always one row.
INSERT INTO agentpool.agents (name, backend, default_model) VALUES ($1, $2, $3)
ON CONFLICT (name) DO UPDATE SET backend = excluded.backend, default_model = excluded.default_model
