-- Purpose: one open request is closed by its node: when its deadline passed the default is given, or a standing rule's answer;
-- unless an answer stands already; that one is told and counts as delivered. The row is locked first, so that an answer whose
-- commit was waited for is seen. Parameters: $1 uuid task, $2 int8 fence, $3 text agent's request id, $4 jsonb answer, $5 text
-- status, $6 text answered by. Zero rows: no such request.
WITH standing AS MATERIALIZED (
    SELECT id, status, answer FROM agentpool.permission_requests
    WHERE task_id = $1 AND fence = $2 AND agent_request_id = $3 FOR UPDATE
), expired AS (
    UPDATE agentpool.permission_requests p SET status = $5, answer = $4, answered_by = $6, delivered_at = clock_timestamp()
    FROM standing s WHERE p.id = s.id AND s.status = 'pending'
), taken AS (
    UPDATE agentpool.permission_requests p SET delivered_at = clock_timestamp()
    FROM standing s WHERE p.id = s.id AND s.status = 'answered' AND p.delivered_at IS NULL
)
SELECT status, answer FROM standing
