-- Purpose: tells readers on every node that events were appended; once a batch, never once a row. Parameters: none.
-- Returns one row.
SELECT pg_notify('session_events', '')
