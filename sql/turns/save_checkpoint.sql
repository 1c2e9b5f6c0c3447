-- Purpose: records a checkpoint. The lane is held, or the worktree is. Parameters: $1 uuid session, $2 uuid task or null,
-- $3 int8 fence or null, $4 text kind, $5 text commit, $6 uuid node, $7 int8 checkpoint that it restores or null.
-- Zero rows: never; its id comes back.
INSERT INTO agentpool.checkpoints (session_id, task_id, fence, kind, commit_id, node_id, restores) VALUES ($1, $2, $3, $4, $5, $6, $7)
RETURNING id
