-- Purpose: tasks, newest first: ids follow the clock, and the primary key serves. Parameters: $1 uuid session,
-- $2 text status, $3 text agent, $4 uuid before this one, $5 uuid workspace (null: any), $6 int8
-- how many. Zero rows: none.
SELECT t.id, t.session_id, t.agent, left(t.prompt, 200) AS prompt, t.model, t.priority, t.run_at, t.status, t.attempt, t.failures,
       t.max_failures, t.cancel_requested_at, left(t.output, 200) AS output, left(t.error, 500) AS error, t.failure_reason,
       t.created_at, t.started_at, t.finished_at, NULL::bigint AS last_pos, t.retry_of,
       (SELECT s.workspace_id FROM agentpool.sessions s WHERE s.id = t.session_id) AS workspace_id
FROM agentpool.tasks t
WHERE ($1::uuid IS NULL OR t.session_id = $1) AND ($2::text IS NULL OR t.status = $2) AND ($3::text IS NULL OR t.agent = $3)
  AND ($4::uuid IS NULL OR t.id < $4)
  AND ($5::uuid IS NULL OR EXISTS (SELECT FROM agentpool.sessions s WHERE s.id = t.session_id AND s.workspace_id = $5))
ORDER BY t.id DESC LIMIT $6
