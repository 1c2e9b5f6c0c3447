-- Purpose: closes a session; its lane is locked, so that no admission is between. What is queued ends as cancelled by the
-- next admission. Parameters: $1 uuid. Zero rows: unknown, or closed already.
UPDATE agentpool.sessions SET status = 'closed', closed_at = clock_timestamp() WHERE id = $1 AND status = 'open' RETURNING id
