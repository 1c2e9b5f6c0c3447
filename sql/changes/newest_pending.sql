-- Purpose: the newest change that waits for review. Parameters: $1 uuid session. Zero rows: none waits.
SELECT id FROM agentpool.pending_changes WHERE session_id = $1 AND status = 'pending' ORDER BY id DESC LIMIT 1
