-- Purpose: answers given by people to these turns. Each is handed out again for 30 s after the first time: the reply of this
-- statement may be lost, and whoever has an answer already drops its double. Parameters: $1 uuid[] tasks, $2 int8[] fences.
-- Zero rows: none.
WITH answered AS MATERIALIZED (
    SELECT p.id, p.task_id, p.agent_request_id, p.answer, p.delivered_at
    FROM agentpool.permission_requests p JOIN unnest($1::uuid[], $2::int8[]) AS w (task_id, fence)
      ON p.task_id = w.task_id AND p.fence = w.fence
    WHERE p.status = 'answered' AND p.answer IS NOT NULL AND p.answered_by IS DISTINCT FROM 'policy'
      AND (p.delivered_at IS NULL OR p.delivered_at > clock_timestamp() - interval '30 s')
), marked AS (
    UPDATE agentpool.permission_requests p SET delivered_at = clock_timestamp()
    FROM answered a WHERE p.id = a.id AND a.delivered_at IS NULL
)
SELECT task_id, agent_request_id, answer FROM answered
