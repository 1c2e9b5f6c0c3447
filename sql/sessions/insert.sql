-- Purpose: a new session, in its project's workspace. Parameters: $1 uuid project, $2 text title, $3 text permission policy or null.
-- Always one row; an unknown project is refused by the table.
INSERT INTO agentpool.sessions (workspace_id, project_id, title, permission_policy)
VALUES (coalesce((SELECT workspace_id FROM agentpool.projects WHERE id = $1), '00000000-0000-7000-8000-000000000001'), $1, $2, $3)
RETURNING id
