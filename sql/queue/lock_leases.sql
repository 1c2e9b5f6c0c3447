-- Purpose: locks, in lane order, the lanes that are still held under the given fences.
-- Parameters: $1 uuid[] sessions, $2 int8[] fences. Zero rows: every lease is lost.
SELECT l.session_id, l.fence
FROM agentpool.lanes l JOIN unnest($1::uuid[], $2::int8[]) AS w (session_id, fence)
  ON w.session_id = l.session_id AND w.fence = l.fence
WHERE l.state = 2 ORDER BY l.session_id FOR UPDATE OF l
