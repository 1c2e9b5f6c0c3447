-- Purpose: the leases that this incarnation holds by the rows, to be compared with what it knows (a COMMIT whose answer
-- was lost). Parameters: $1 uuid own incarnation. Zero rows: none.
SELECT session_id, fence, head_task FROM agentpool.lanes WHERE state = 2 AND lease_incarnation = $1
