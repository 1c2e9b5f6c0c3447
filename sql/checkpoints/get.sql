-- Purpose: one checkpoint of a session. Parameters: $1 uuid session, $2 int8 id. Zero rows: the session has no such one.
SELECT c.id, c.session_id, c.task_id, t.agent, c.kind, c.commit_id, c.node_id, c.restores, c.created_at, false AS present
FROM agentpool.checkpoints c LEFT JOIN agentpool.tasks t ON t.id = c.task_id WHERE c.session_id = $1 AND c.id = $2
