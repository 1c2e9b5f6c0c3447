-- Purpose: what an idempotency key is bound to; a key of 7 days or older is free. Parameters: $1 uuid workspace, $2 text key.
-- Zero rows: nothing.
SELECT request_hash, task_id FROM agentpool.idempotency_keys
WHERE workspace_id = $1 AND key = $2 AND created_at >= clock_timestamp() - interval '7 days'
