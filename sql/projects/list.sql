-- Purpose: the projects of a workspace, or all, by name. Parameters: $1 uuid workspace or null. Zero rows: none yet.
SELECT id, name, path, url, node_id, created_at FROM agentpool.projects
WHERE ($1::uuid IS NULL OR workspace_id = $1) ORDER BY name
