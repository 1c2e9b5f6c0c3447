-- Purpose: when each attempt of a task began and how it ended, oldest first. Parameters: $1 uuid task.
-- Zero rows: no attempt has come as far as its agent, or its events are past their days.
SELECT type, content, input, created_at FROM agentpool.task_messages
WHERE task_id = $1 AND type IN ('turn_started', 'turn_ended') ORDER BY seq
