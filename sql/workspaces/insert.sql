-- Purpose: a new workspace. Parameters: $1 text name. Zero rows: there is one of that name.
INSERT INTO agentpool.workspaces (name) VALUES ($1) ON CONFLICT (name) DO NOTHING RETURNING id
