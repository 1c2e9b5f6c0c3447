-- Purpose: tells readers on every node that events were appended; once a batch, never once a row. Parameters: $1 text the node's id: it
-- has told its own readers already. Empty: every node looks, the own one too.
-- Returns one row.
SELECT pg_notify('session_events', $1)
