-- Purpose: a question becomes a row, under the fence; asked twice it is one row. Parameters: $1 uuid session, $2 int8 fence,
-- $3 uuid task, $4 text agent, $5 text agent's request id, $6 text kind, $7 text title, $8 jsonb payload, $9 jsonb options
-- or null, $10 text status, $11 jsonb answer or null, $12 text answered by or null, $13 float8 deadline in seconds or null.
-- What an earlier, interrupted try of the task had asked in the same words is named as repeated. Zero rows: the lease is lost.
WITH lane AS (
    SELECT session_id FROM agentpool.lanes WHERE session_id = $1 AND fence = $2 AND state = 2 FOR UPDATE
)
INSERT INTO agentpool.permission_requests AS p (session_id, task_id, agent, fence, agent_request_id, kind, title, payload, options,
                                                status, answer, answered_by, deadline, delivered_at, repeats)
SELECT lane.session_id, $3, $4, $2, $5, $6, $7, $8, $9, $10, $11, $12,
       CASE WHEN $13::float8 IS NULL THEN NULL ELSE clock_timestamp() + make_interval(secs => $13) END,
       CASE WHEN $10 = 'answered' THEN clock_timestamp() END,
       (SELECT e.id FROM agentpool.permission_requests e
        WHERE e.task_id = $3 AND e.fence < $2 AND e.kind = $6 AND e.title = $7 AND e.status = 'cancelled'
        ORDER BY e.fence DESC, e.id DESC LIMIT 1)
FROM lane
ON CONFLICT (task_id, fence, agent_request_id) DO UPDATE SET title = excluded.title
RETURNING p.id
