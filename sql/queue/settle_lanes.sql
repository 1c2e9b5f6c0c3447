-- Purpose: sets the head and the state of unleased lanes from their tasks. The lanes are locked by an earlier statement of
-- the transaction, so this one's snapshot sees every admission. A lane that was ready keeps its place in the round robin.
-- Parameters: $1 uuid[] sessions. Zero rows: all of them are leased.
WITH head AS (
    SELECT l.session_id, t.id, t.agent,
           CASE WHEN t.run_at > clock_timestamp() THEN t.run_at END AS wake_at,
           CASE WHEN l.state = 1 THEN l.ready_at ELSE clock_timestamp() END AS ready_at,
           coalesce((SELECT p.priority FROM agentpool.tasks p
                     WHERE p.session_id = l.session_id AND p.lane_position IS NOT NULL AND p.status = 'queued'
                     ORDER BY p.priority DESC LIMIT 1), 0) AS prio
    FROM agentpool.lanes l
    LEFT JOIN LATERAL (
        SELECT id, agent, run_at FROM agentpool.tasks t
        WHERE t.session_id = l.session_id AND t.lane_position IS NOT NULL AND t.status = 'queued'
        ORDER BY t.lane_position LIMIT 1) t ON true
    WHERE l.session_id = ANY ($1::uuid[]) AND l.state <> 2
)
UPDATE agentpool.lanes l
SET state = CASE WHEN h.id IS NULL THEN 0 WHEN h.wake_at IS NOT NULL THEN 3 ELSE 1 END,
    wake_at = h.wake_at, prio = h.prio, ready_at = h.ready_at,
    due = h.ready_at - h.prio * interval '30 seconds',
    head_task = h.id, head_agent = h.agent
FROM head h WHERE l.session_id = h.session_id
RETURNING l.session_id, l.state
