-- Purpose: nobody gets in with this token from here on. Parameters: $1 uuid. Zero rows: unknown, or revoked before.
UPDATE agentpool.api_tokens SET revoked_at = clock_timestamp() WHERE id = $1 AND revoked_at IS NULL RETURNING id
