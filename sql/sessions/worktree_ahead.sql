-- Purpose: remembers a worktree that was made with its session, before any turn; only on the node that the project lies on, so
-- that no other can have made one. Parameters: $1 uuid session, $2 uuid node, $3 text path, $4 text base commit, $5 text branch.
-- Zero rows: the session was closed meanwhile, or its first turn was faster.
INSERT INTO agentpool.session_worktrees (session_id, node_id, worktree_path, base_commit, branch)
SELECT s.id, $2, $3, $4, $5 FROM agentpool.sessions s WHERE s.id = $1 AND s.status = 'open' FOR SHARE
ON CONFLICT (session_id, node_id) DO NOTHING
RETURNING session_id
