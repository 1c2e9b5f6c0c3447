-- Purpose: extends the leases that are still held, locks in lane order, and tells which tasks were asked to be cancelled.
-- Parameters: $1 uuid[] sessions, $2 int8[] fences, $3 float8 lease in seconds. A lease not returned is lost.
-- Zero rows: all are.
WITH held AS MATERIALIZED (
    SELECT l.session_id FROM agentpool.lanes l JOIN unnest($1::uuid[], $2::int8[]) AS w (session_id, fence)
      ON w.session_id = l.session_id AND w.fence = l.fence
    WHERE l.state = 2 ORDER BY l.session_id FOR UPDATE OF l
), renewed AS (
    UPDATE agentpool.lanes l SET lease_until = clock_timestamp() + make_interval(secs => $3)
    FROM held WHERE l.session_id = held.session_id RETURNING l.session_id, l.fence, l.head_task
)
SELECT r.session_id, r.fence, t.cancel_requested_at IS NOT NULL AS cancel_requested
FROM renewed r JOIN agentpool.tasks t ON t.id = r.head_task
