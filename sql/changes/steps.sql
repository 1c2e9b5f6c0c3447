-- Purpose: what happened to the files of a session, in order, without the diffs: what waits for review, and what was applied and is
-- there still. Parameters: $1 uuid session. Zero rows: nothing has changed.
WITH line AS MATERIALIZED (
    SELECT agentpool.checkpoint_line((SELECT max(c.id) FROM agentpool.checkpoints c WHERE c.session_id = $1)) AS id
)
SELECT p.id, p.checkpoint_id, p.task_id, p.agent, p.file_path, p.old_path, p.operation, p.status, p.additions, p.deletions
FROM agentpool.pending_changes p
WHERE p.session_id = $1 AND p.status IN ('pending', 'applied') AND (p.checkpoint_id IS NULL OR p.checkpoint_id IN (SELECT line.id FROM line))
ORDER BY p.checkpoint_id NULLS FIRST, p.id
