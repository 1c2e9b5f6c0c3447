-- Purpose: whose token this is. Parameters: $1 bytea SHA-256. Zero rows: nobody's, or it was revoked.
SELECT id, scope, workspace_id, coalesce(last_used_at < clock_timestamp() - interval '1 minute', true) AS stale
FROM agentpool.api_tokens WHERE hash = $1 AND revoked_at IS NULL
