-- Purpose: binds an idempotency key to its request; the first one wins. Keys live for 7 days. Parameters: $1 uuid workspace,
-- $2 text key, $3 text request hash, $4 uuid task. Zero rows: the key is taken.
INSERT INTO agentpool.idempotency_keys AS k (workspace_id, key, request_hash, task_id) VALUES ($1, $2, $3, $4)
ON CONFLICT (workspace_id, key) DO UPDATE
SET request_hash = excluded.request_hash, task_id = excluded.task_id, created_at = clock_timestamp()
WHERE k.created_at < clock_timestamp() - interval '7 days'
RETURNING task_id
