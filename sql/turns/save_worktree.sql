-- Purpose: remembers where a session's work is. The lane is held. Parameters: $1 uuid session, $2 uuid node, $3 text path, $4 text base
-- commit, $5 text branch. Always one row.
INSERT INTO agentpool.session_worktrees (session_id, node_id, worktree_path, base_commit, branch)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (session_id, node_id) DO UPDATE
SET worktree_path = excluded.worktree_path, base_commit = excluded.base_commit, branch = excluded.branch, removed_at = NULL
