-- Purpose: marks chosen changes as applied. Parameters: $1 uuid[] changes. Zero rows: none of them was pending.
UPDATE agentpool.pending_changes SET status = 'applied' WHERE id = ANY($1::uuid[]) AND status = 'pending'
