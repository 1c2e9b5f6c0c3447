-- Purpose: blobs and diffs of chosen changes, in order. Parameters: $1 uuid[] changes. Zero rows: none of them is there.
SELECT p.id, p.task_id, p.agent, p.file_path, p.old_path, p.old_mode, p.new_mode, p.old_blob, p.new_blob, p.diff
FROM agentpool.pending_changes p WHERE p.id = ANY($1::uuid[]) ORDER BY p.checkpoint_id NULLS FIRST, p.id
