-- Purpose: the deadline of one request passed; the default was given. Parameters: $1 uuid task, $2 int8 fence, $3 text
-- agent's request id, $4 jsonb answer. Zero rows: a person was faster.
UPDATE agentpool.permission_requests SET status = 'expired', answer = $4, answered_by = 'deadline', delivered_at = clock_timestamp()
WHERE task_id = $1 AND fence = $2 AND agent_request_id = $3 AND status = 'pending' RETURNING id
