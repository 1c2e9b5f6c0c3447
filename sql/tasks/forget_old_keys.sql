-- Purpose: deletes idempotency keys that no longer bind, some at a time. Parameters: none. Zero rows: none are that old.
DELETE FROM agentpool.idempotency_keys k
USING (SELECT workspace_id, key FROM agentpool.idempotency_keys
       WHERE created_at < clock_timestamp() - interval '7 days' ORDER BY created_at LIMIT 1000 FOR UPDATE SKIP LOCKED) old
WHERE k.workspace_id = old.workspace_id AND k.key = old.key
