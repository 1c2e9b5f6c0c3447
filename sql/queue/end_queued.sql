-- Purpose: ends queued tasks that were asked to be cancelled, or whose session is closed. The lanes are locked.
-- Rows that somebody else has locked (an open psql) wait for the next round.
-- Parameters: $1 uuid[] sessions. Zero rows: none to end.
WITH doomed AS MATERIALIZED (
    SELECT t.id, s.status AS session_status
    FROM agentpool.tasks t JOIN agentpool.sessions s ON s.id = t.session_id
    WHERE t.session_id = ANY ($1::uuid[]) AND t.status = 'queued'
      AND (t.cancel_requested_at IS NOT NULL OR s.status = 'closed')
    FOR UPDATE OF t SKIP LOCKED
)
UPDATE agentpool.tasks t
SET status = 'cancelled', finished_at = clock_timestamp(),
    error = CASE WHEN d.session_status = 'closed' THEN 'the session is closed' ELSE t.error END
FROM doomed d WHERE t.id = d.id
RETURNING t.id, t.session_id
