-- Purpose: what an idempotency key is bound to. Parameters: $1 uuid workspace, $2 text key. Zero rows: nothing.
SELECT request_hash, task_id FROM agentpool.idempotency_keys WHERE workspace_id = $1 AND key = $2
