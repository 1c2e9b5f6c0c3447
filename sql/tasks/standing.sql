-- Purpose: what a queued task waits for. Parameters: $1 uuid task, $2 uuid the node that answers.
-- Zero rows: unknown, or no longer queued.
SELECT t.cancel_requested_at IS NOT NULL OR s.status <> 'open' AS ending, t.run_at,
       coalesce(t.failure_reason = 'rate_limited', false) AS rate_limited, t.lane_position IS NOT NULL AS admitted,
       l.session_id IS NOT NULL AS has_lane, l.head_task, coalesce(l.state = 2, false) AS leased, l.wake_at,
       coalesce(l.paused, false) AS paused, nullif(l.home_node, '00000000-0000-0000-0000-000000000000') AS home_node,
       coalesce(l.home_node = $2, false) AS home_is_here
FROM agentpool.tasks t JOIN agentpool.sessions s ON s.id = t.session_id LEFT JOIN agentpool.lanes l ON l.session_id = t.session_id
WHERE t.id = $1 AND t.status = 'queued'
