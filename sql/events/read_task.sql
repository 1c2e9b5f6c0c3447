-- Purpose: a page of a task's events, in order of stream position, so that the index of the stream serves. Parameters: $1 uuid task, $2 uuid session, $3 int8 after
-- position, $4 int8 how many. Zero rows: nothing newer.
SELECT task_id, seq, session_id, pos, type, tool, content, input, output, output_bytes, created_at FROM agentpool.task_messages
WHERE task_id = $1 AND session_id = $2 AND pos > $3 ORDER BY pos LIMIT $4
