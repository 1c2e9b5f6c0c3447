-- Purpose: locks one lane under its fence; the other statements of the transaction follow. Parameters: $1 uuid session,
-- $2 int8 fence. Zero rows: the lease is lost.
SELECT session_id FROM agentpool.lanes WHERE session_id = $1 AND fence = $2 AND state = 2 FOR UPDATE
