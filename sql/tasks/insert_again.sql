-- Purpose: puts a task that failed or was cancelled in the queue once more, as a new task with the same wishes. Parameters: $1 uuid task.
-- Zero rows: unknown, or it has not ended so.
INSERT INTO agentpool.tasks (session_id, agent, prompt, model, mode_id, thinking_option_id, feature_values, priority, max_failures, retry_of)
SELECT session_id, agent, prompt, model, mode_id, thinking_option_id, feature_values, priority, max_failures, id
FROM agentpool.tasks WHERE id = $1 AND status IN ('failed', 'cancelled') RETURNING id
