-- Purpose: takes the incarnation's advisory lock for as long as this connection lives. Parameters: $1 int4 lock key.
-- Returns one row: false = another connection still holds it.
SELECT pg_try_advisory_lock(1095782477, $1)
