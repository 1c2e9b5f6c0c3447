-- Purpose: the changes of a session in order. Parameters: $1 uuid session, $2 text status or null. Zero rows: none.
SELECT id, session_id, task_id, agent, file_path, old_path, operation, old_mode, new_mode, is_binary, diff, additions, deletions, status, created_at
FROM agentpool.pending_changes WHERE session_id = $1 AND ($2::text IS NULL OR status = $2) ORDER BY id
