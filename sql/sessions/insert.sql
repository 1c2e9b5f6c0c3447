-- Purpose: a new session. Parameters: $1 uuid workspace, $2 uuid project, $3 text title, $4 text permission policy
-- or null. Always one row.
INSERT INTO agentpool.sessions (workspace_id, project_id, title, permission_policy) VALUES ($1, $2, $3, $4) RETURNING id
