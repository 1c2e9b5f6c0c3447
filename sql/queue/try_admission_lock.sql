-- Purpose: one node admits at a time. Parameters: none. Returns one row: false = another node is at it, which is as good.
SELECT pg_try_advisory_xact_lock(1095782476, 1)
