-- Purpose: where the worktree of a session is, on its home. Parameters: $1 uuid session. Zero rows: there is none.
SELECT w.worktree_path FROM agentpool.lanes l
JOIN agentpool.session_worktrees w ON w.session_id = l.session_id AND w.node_id = l.home_node AND w.removed_at IS NULL
WHERE l.session_id = $1
