-- Purpose: when each attempt of a task began, where and under which fence, and how it ended, oldest first. An attempt saves its
-- checkpoint before its agent is prompted: the newest one before that moment is its own. Parameters: $1 uuid task.
-- Zero rows: no attempt has come as far as its agent, or its events are past their days.
SELECT m.type, m.content, m.input, m.created_at, c.fence, c.node_id, n.hostname AS node_name
FROM agentpool.task_messages m
LEFT JOIN LATERAL (
    SELECT b.fence, b.node_id FROM agentpool.checkpoints b
    WHERE m.type = 'turn_started' AND b.task_id = m.task_id AND b.kind = 'before' AND b.created_at <= m.created_at
    ORDER BY b.id DESC LIMIT 1) c ON true
LEFT JOIN agentpool.nodes n ON n.id = c.node_id
WHERE m.task_id = $1 AND m.type IN ('turn_started', 'turn_ended') ORDER BY m.seq
