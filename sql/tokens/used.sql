-- Purpose: remembers that a token was used, to the minute. Parameters: $1 uuid. Zero rows: it is gone.
UPDATE agentpool.api_tokens SET last_used_at = clock_timestamp() WHERE id = $1
