-- Purpose: takes leases away from a dead or stopped owner: their tasks go back to the queue uncharged, end as cancelled
-- when that was asked, or fail for good at the 20th loss (a task that kills every node that runs it; attempts that a drain gave back do not count). A lease renewed
-- since it was seen is left alone, and so is one whose task somebody has locked: to wait for an open psql here would make
-- the renewals wait. settle_lanes follows.
-- Parameters: $1 uuid[] sessions, $2 int8[] fences, $3 timestamptz[] lease_until as seen, $4 bool whole: the home itself asks.
-- Else only what another node could run (a project by URL without a worktree yet) or whose cancel was asked is taken; what can move
-- has no home then, or its stopped home would be waited for.
-- Zero rows: all were renewed or locked, or only their home can run them.
WITH lane AS MATERIALIZED (
    SELECT l.session_id, l.head_task, l.fence, m.movable FROM agentpool.lanes l
    JOIN unnest($1::uuid[], $2::int8[], $3::timestamptz[]) AS w (session_id, fence, lease_until)
      ON w.session_id = l.session_id AND w.fence = l.fence AND w.lease_until = l.lease_until
    JOIN agentpool.sessions s ON s.id = l.session_id JOIN agentpool.projects p ON p.id = s.project_id
    JOIN agentpool.tasks h ON h.id = l.head_task
    CROSS JOIN LATERAL (SELECT p.url IS NOT NULL AND NOT EXISTS (
        SELECT FROM agentpool.session_worktrees t WHERE t.session_id = l.session_id) AS movable) m
    WHERE l.state = 2 AND ($4::boolean OR h.cancel_requested_at IS NOT NULL OR m.movable)
    ORDER BY l.session_id FOR UPDATE OF l
), head AS MATERIALIZED (
    SELECT t.id, lane.session_id, lane.movable FROM lane JOIN agentpool.tasks t ON t.id = lane.head_task FOR UPDATE OF t SKIP LOCKED
), task AS (
    UPDATE agentpool.tasks t
    SET status = CASE WHEN t.cancel_requested_at IS NOT NULL THEN 'cancelled' WHEN t.losses >= 19 THEN 'failed' ELSE 'queued' END,
        finished_at = CASE WHEN t.cancel_requested_at IS NOT NULL OR t.losses >= 19 THEN clock_timestamp() END,
        losses = t.losses + 1,
        failure_reason = CASE WHEN t.cancel_requested_at IS NULL THEN 'node_lost' END,
        error = CASE WHEN t.cancel_requested_at IS NULL THEN 'the node that ran this task was lost' END
    FROM head WHERE t.id = head.id AND t.status IN ('dispatched', 'running') RETURNING t.id
), permissions AS (
    UPDATE agentpool.permission_requests p SET status = 'cancelled', answered_by = 'node_lost'
    FROM task WHERE p.task_id = task.id AND p.status = 'pending'
), conversations AS (
    UPDATE agentpool.agent_sessions a SET status = 'crashed'
    FROM head WHERE a.session_id = head.session_id AND a.status = 'active'
)
UPDATE agentpool.lanes l SET state = 0, lease_until = NULL, lease_node = NULL, lease_incarnation = NULL,
    home_node = CASE WHEN NOT $4::boolean AND head.movable THEN '00000000-0000-0000-0000-000000000000' ELSE l.home_node END
FROM head WHERE l.session_id = head.session_id
RETURNING l.session_id, l.head_task, l.fence
