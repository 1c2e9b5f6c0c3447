-- Purpose: marks what an apply brought over. Parameters: $1 uuid session, $2 uuid newest change that was in the checkpoint.
-- Zero rows: nothing was pending.
UPDATE agentpool.pending_changes SET status = 'applied' WHERE session_id = $1 AND status = 'pending' AND id <= $2
