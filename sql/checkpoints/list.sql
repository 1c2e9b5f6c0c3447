-- Purpose: the checkpoints of a session, newest first, with the agent whose turn took them; `present` is true of the states that
-- the present one came from. Parameters: $1 uuid session, $2 int8 before this one or null, $3 int8 how many. Zero rows: none.
WITH line AS MATERIALIZED (
    SELECT agentpool.checkpoint_line((SELECT max(c.id) FROM agentpool.checkpoints c WHERE c.session_id = $1)) AS id
)
SELECT c.id, c.session_id, c.task_id, t.agent, c.kind, c.commit_id, c.node_id, c.restores, c.created_at,
       c.id IN (SELECT line.id FROM line) AS present
FROM agentpool.checkpoints c LEFT JOIN agentpool.tasks t ON t.id = c.task_id
WHERE c.session_id = $1 AND ($2::int8 IS NULL OR c.id < $2) ORDER BY c.id DESC LIMIT $3
