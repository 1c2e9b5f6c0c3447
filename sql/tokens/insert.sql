-- Purpose: a new token; the caller keeps its text. Parameters: $1 text name, $2 text scope, $3 uuid workspace or null, $4 bytea SHA-256.
-- Always one row.
INSERT INTO agentpool.api_tokens (name, scope, workspace_id, hash) VALUES ($1, $2, $3, $4) RETURNING id
