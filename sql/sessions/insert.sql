-- Purpose: a new session. Parameters: $1 uuid workspace, $2 uuid project, $3 text title. Always one row.
INSERT INTO agentpool.sessions (workspace_id, project_id, title) VALUES ($1, $2, $3) RETURNING id
