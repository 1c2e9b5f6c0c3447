-- Purpose: the states before and after a task on the node that ended it. Parameters: $1 uuid task. Zero rows: it has not ended with a
-- state that was saved.
SELECT b.commit_id AS before, a.commit_id AS after, a.node_id
FROM agentpool.checkpoints a CROSS JOIN LATERAL (
    SELECT b.commit_id FROM agentpool.checkpoints b
    WHERE b.task_id = a.task_id AND b.kind = 'before' AND b.node_id = a.node_id ORDER BY b.id LIMIT 1) b
WHERE a.task_id = $1 AND a.kind = 'after' ORDER BY a.id DESC LIMIT 1
