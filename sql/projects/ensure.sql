-- Purpose: the project of a path or URL, made when it is new. Parameters: $1 uuid workspace, $2 text name, $3 text path or
-- null, $4 text url or null, $5 uuid node (for a path). Always one row.
INSERT INTO agentpool.projects AS p (workspace_id, name, path, url, node_id) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (workspace_id, path, url, node_id) DO UPDATE SET name = p.name RETURNING p.id
