-- Purpose: all projects by name. Parameters: none. Zero rows: none yet.
SELECT id, name, path, url, node_id, created_at FROM agentpool.projects ORDER BY name
