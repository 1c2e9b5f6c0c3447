-- Purpose: every workspace. Parameters: none. Zero rows: never, `default` exists from the start.
SELECT id, name, created_at FROM agentpool.workspaces ORDER BY name
