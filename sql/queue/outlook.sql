-- Purpose: what a short claim asks before it sleeps: is there more that this node could run, and when is the next moment
-- at which something falls due? ORDER BY due keeps the planner on the index: ten thousand lanes of an agent that this node
-- lacks must not be read to find none. Parameters: $1 uuid node, $2 text[] agents. Always one row.
SELECT
    EXISTS (SELECT FROM unnest(ARRAY[$1::uuid, '00000000-0000-0000-0000-000000000000']) AS home
            CROSS JOIN unnest($2::text[]) AS a (agent)
            CROSS JOIN LATERAL (SELECT FROM agentpool.lanes l WHERE l.state = 1 AND l.home_node = home
                                AND l.head_agent = a.agent AND NOT l.paused ORDER BY l.due LIMIT 1) x)
    OR EXISTS (SELECT FROM agentpool.tasks WHERE lane_position IS NULL AND status = 'queued' AND run_at IS NULL) AS more,
    extract(epoch FROM least(
        (SELECT min(wake_at) FROM agentpool.lanes WHERE state = 3),
        (SELECT min(run_at) FROM agentpool.tasks WHERE lane_position IS NULL AND status = 'queued' AND run_at IS NOT NULL)
    ) - clock_timestamp())::float8 AS due_in_secs
