-- Purpose: one event's tool output: as its row has it, how long it is as a whole where the row has a preview, and the whole, compressed,
-- where it is kept. Parameters: $1 uuid task, $2 int8 seq. Zero rows: there is no such event.
SELECT m.output, m.output_bytes, o.body
FROM agentpool.task_messages m LEFT JOIN agentpool.tool_outputs o ON o.task_id = m.task_id AND o.seq = m.seq
WHERE m.task_id = $1 AND m.seq = $2
