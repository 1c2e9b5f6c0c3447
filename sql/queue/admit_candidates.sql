-- Purpose: sessions whose lanes want attention: new or due tasks, queued tasks with a cancel asked, lanes to wake.
-- Parameters: $1 int8 how many of each. Zero rows: nothing to admit.
WITH fresh AS (
    SELECT session_id FROM agentpool.tasks
    WHERE lane_position IS NULL AND status = 'queued' AND run_at IS NULL ORDER BY enqueued LIMIT $1
), due AS (
    SELECT session_id FROM agentpool.tasks
    WHERE lane_position IS NULL AND status = 'queued' AND run_at IS NOT NULL AND run_at <= clock_timestamp()
    ORDER BY run_at LIMIT $1
), asked AS (
    SELECT session_id FROM agentpool.tasks WHERE cancel_requested_at IS NOT NULL AND status = 'queued' LIMIT $1
), woken AS (
    SELECT session_id FROM agentpool.lanes WHERE state = 3 AND wake_at <= clock_timestamp() ORDER BY wake_at LIMIT $1
)
SELECT session_id FROM fresh UNION SELECT session_id FROM due UNION SELECT session_id FROM asked UNION SELECT session_id FROM woken
