-- Purpose: leases at most $3 ready lanes of this home or of none, for agents that can run here, fairest first, and
-- dispatches their heads. A ready lane without a queued head (a phantom) comes back with a null task, to be settled.
-- A lane whose head somebody has locked (an open psql) steps aside for a quarter of a second: picked first for ever, a few of
-- them would stop the queue. A lane that somebody has locked is passed over for one of 32 more in the same claim; the limit
-- is above the lock, so that no more than $3 are locked. Nothing here waits, so the order of these locks closes no circle.
-- Parameters: $1 uuid node, $2 uuid incarnation, $3 int8 how many, $4 text[] agents, $5 float8 lease in seconds.
-- Zero rows: nothing that this node could run was ready and unlocked.
WITH candidates AS MATERIALIZED (
    SELECT x.session_id, x.fence, x.head_task, x.due, home FROM unnest(ARRAY[$1::uuid, '00000000-0000-0000-0000-000000000000']) AS home
    CROSS JOIN unnest($4::text[]) AS a (agent)
    CROSS JOIN LATERAL (
        SELECT l.session_id, l.fence, l.head_task, l.due FROM agentpool.lanes l
        WHERE l.state = 1 AND l.home_node = home AND l.head_agent = a.agent AND NOT l.paused
        ORDER BY l.due LIMIT $3::int8 + 32) x
    ORDER BY x.due LIMIT $3::int8 + 32
), lane AS MATERIALIZED (
    -- All of it is checked again on the locked row: since the snapshot another node may have run this lane and made itself
    -- its home, or it may have got another head. The array keeps a generic plan, which cannot know $3, from reading all lanes.
    SELECT l.session_id, l.head_task, l.fence FROM agentpool.lanes l JOIN candidates c ON c.session_id = l.session_id
    WHERE l.session_id = ANY (ARRAY(SELECT session_id FROM candidates))
      AND l.state = 1 AND NOT l.paused AND l.fence = c.fence AND l.home_node = c.home
      AND l.head_task IS NOT DISTINCT FROM c.head_task
    ORDER BY c.due LIMIT $3 FOR UPDATE OF l SKIP LOCKED
), head AS MATERIALIZED (
    SELECT t.id, t.fence AS previous_fence, lane.session_id, lane.fence
    FROM lane JOIN agentpool.tasks t ON t.id = lane.head_task
    WHERE t.status = 'queued' FOR UPDATE OF t SKIP LOCKED
), aside AS (
    UPDATE agentpool.lanes l SET state = 3, wake_at = clock_timestamp() + interval '250 milliseconds'
    FROM lane WHERE l.session_id = lane.session_id AND lane.session_id NOT IN (SELECT session_id FROM head)
      AND EXISTS (SELECT FROM agentpool.tasks t WHERE t.id = lane.head_task AND t.status = 'queued')
), task AS (
    UPDATE agentpool.tasks t
    SET status = 'dispatched', attempt = t.attempt + 1, dispatched_at = clock_timestamp(), fence = h.fence + 1
    FROM head h WHERE t.id = h.id
    RETURNING t.id, t.session_id, t.agent, t.prompt, t.model, t.mode_id, t.thinking_option_id, t.feature_values,
              t.attempt, t.failures, t.max_failures, t.fence, h.previous_fence, t.cancel_requested_at
), leased AS (
    UPDATE agentpool.lanes l
    SET state = 2, fence = t.fence, lease_until = clock_timestamp() + make_interval(secs => $5), lease_node = $1,
        lease_incarnation = $2, home_node = $1, wake_at = NULL,
        last_seq = CASE WHEN t.attempt = 1 THEN 0
                        ELSE coalesce((SELECT max(m.seq) FROM agentpool.task_messages m WHERE m.task_id = t.id), 0) END
    FROM task t WHERE l.session_id = t.session_id
    RETURNING l.session_id, l.last_seq
)
SELECT t.session_id, t.id, t.fence, s.workspace_id, t.agent, t.prompt, t.model, t.mode_id, t.thinking_option_id,
       t.feature_values, t.attempt, t.failures, t.max_failures, leased.last_seq, t.previous_fence,
       t.cancel_requested_at IS NOT NULL AS cancel_requested
FROM task t JOIN leased ON leased.session_id = t.session_id JOIN agentpool.sessions s ON s.id = t.session_id
UNION ALL
SELECT lane.session_id, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL
FROM lane WHERE NOT EXISTS (SELECT FROM agentpool.tasks t WHERE t.id = lane.head_task AND t.status = 'queued')
