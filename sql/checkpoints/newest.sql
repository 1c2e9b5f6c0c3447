-- Purpose: the newest state of a session on a node, interrupted trees aside; when it was taken before a turn that left no later
-- one, the turn's task and agent, who did what has changed since. Parameters: $1 uuid session, $2 uuid node.
-- Zero rows: no turn has run.
SELECT c.commit_id, t.id AS task_id, t.agent
FROM agentpool.checkpoints c LEFT JOIN agentpool.tasks t ON t.id = c.task_id AND c.kind = 'before'
WHERE c.session_id = $1 AND c.node_id = $2 AND c.kind <> 'interrupted' ORDER BY c.id DESC LIMIT 1
