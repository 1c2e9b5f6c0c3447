-- Purpose: answers given by people that no turn has taken yet; marks them delivered. Parameters: $1 uuid[] tasks, $2 int8[]
-- fences. Zero rows: none.
UPDATE agentpool.permission_requests p SET delivered_at = clock_timestamp()
FROM unnest($1::uuid[], $2::int8[]) AS w (task_id, fence)
WHERE p.task_id = w.task_id AND p.fence = w.fence AND p.status = 'answered' AND p.delivered_at IS NULL
RETURNING p.task_id, p.agent_request_id, p.answer
