-- Purpose: a page of a session's stream. Parameters: $1 uuid session, $2 int8 after position, $3 int8 how many.
-- Zero rows: nothing newer.
SELECT task_id, seq, session_id, pos, type, tool, content, input, output, output_bytes, created_at FROM agentpool.task_messages
WHERE session_id = $1 AND pos > $2 ORDER BY pos LIMIT $3
