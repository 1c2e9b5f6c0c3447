-- Purpose: the one lane lock of a transaction, in lane order. Parameters: $1 uuid[] sessions.
-- Zero rows: no such lanes.
SELECT session_id FROM agentpool.lanes WHERE session_id = ANY ($1::uuid[]) ORDER BY session_id FOR UPDATE
