-- Purpose: the finished turns of one conversation, newest first, to be told again. Parameters: $1 uuid session, $2 text
-- agent, $3 uuid task to leave out, $4 int8 how many. Zero rows: nothing was said before.
SELECT prompt, coalesce(output, '') AS output FROM agentpool.tasks
WHERE session_id = $1 AND agent = $2 AND id <> $3 AND status = 'completed' ORDER BY lane_position DESC LIMIT $4
