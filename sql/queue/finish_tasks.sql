-- Purpose: ends or requeues tasks under their fences and frees their lanes (settle_lanes follows). The lanes are locked
-- by lock_leases. A task row that somebody has locked is left out; its lease stays and the finish is tried again.
-- A task that goes back to the queue although its cancel was asked ends as cancelled.
-- Parameters: $1 uuid[] sessions, $2 int8[] fences, $3 uuid[] tasks, $4 text[] status, $5 float8[] wait in seconds
-- (a year at most),
-- $6 text[] reason or null, $7 text[] error or null, $8 int4[] failures charged. Zero rows: every lease is lost or busy.
WITH wanted AS MATERIALIZED (
    SELECT w.* FROM unnest($1::uuid[], $2::int8[], $3::uuid[], $4::text[], $5::float8[], $6::text[], $7::text[], $8::int4[])
        AS w (session_id, fence, task_id, status, wait, reason, error, charged)
    JOIN agentpool.lanes l ON l.session_id = w.session_id AND l.fence = w.fence AND l.state = 2 AND l.head_task = w.task_id
), locked AS MATERIALIZED (
    SELECT t.id FROM agentpool.tasks t JOIN wanted w ON w.task_id = t.id FOR UPDATE OF t SKIP LOCKED
), ended AS (
    UPDATE agentpool.tasks t
    SET status = e.status, failures = t.failures + w.charged, failure_reason = w.reason,
        error = w.error,
        run_at = CASE WHEN e.status = 'queued' THEN clock_timestamp() + make_interval(secs => least(w.wait, 31536000)) ELSE t.run_at END,
        finished_at = CASE WHEN e.status = 'queued' THEN NULL ELSE clock_timestamp() END
    FROM wanted w JOIN locked k ON k.id = w.task_id
    JOIN agentpool.tasks o ON o.id = w.task_id
    CROSS JOIN LATERAL (SELECT CASE WHEN w.status = 'queued' AND o.cancel_requested_at IS NOT NULL
                                    THEN 'cancelled' ELSE w.status END AS status) e
    WHERE t.id = w.task_id
    RETURNING t.id, t.session_id, t.status
), permissions AS (
    UPDATE agentpool.permission_requests p SET status = 'cancelled', answered_by = 'turn_ended'
    FROM ended WHERE p.task_id = ended.id AND p.status = 'pending'
)
UPDATE agentpool.lanes l
SET state = 0, lease_until = NULL, lease_node = NULL, lease_incarnation = NULL
FROM ended WHERE l.session_id = ended.session_id
RETURNING l.session_id, l.fence
