-- Purpose: every token, newest first, without its hash. Parameters: $1 uuid that one or null. Zero rows: there is none.
SELECT t.id, t.name, t.scope, w.name AS workspace, t.created_at, t.last_used_at, t.revoked_at
FROM agentpool.api_tokens t LEFT JOIN agentpool.workspaces w ON w.id = t.workspace_id
WHERE ($1::uuid IS NULL OR t.id = $1) ORDER BY t.id DESC
