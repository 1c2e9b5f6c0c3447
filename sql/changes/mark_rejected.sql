-- Purpose: marks chosen changes as rejected. Parameters: $1 uuid[] changes, $2 int8 the checkpoint after it. Zero rows: none of them
-- was pending.
UPDATE agentpool.pending_changes SET status = 'rejected', rejected_by = $2 WHERE id = ANY($1::uuid[]) AND status = 'pending'
