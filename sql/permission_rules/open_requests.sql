-- Purpose: what tools ask and nobody has answered, where a new rule may answer it, with the worktree of the session's home.
-- Parameters: $1 uuid workspace, $2 uuid session or null, $3 text agent or null, $4 int8 how many. Zero rows: nothing is open.
SELECT p.id, p.session_id, p.agent, p.payload, w.worktree_path
FROM agentpool.permission_requests p JOIN agentpool.sessions s ON s.id = p.session_id AND s.workspace_id = $1
LEFT JOIN agentpool.lanes l ON l.session_id = p.session_id
LEFT JOIN agentpool.session_worktrees w ON w.session_id = p.session_id AND w.node_id = l.home_node AND w.removed_at IS NULL
WHERE p.status = 'pending' AND p.kind = 'tool' AND ($2::uuid IS NULL OR p.session_id = $2) AND ($3::text IS NULL OR p.agent = $3)
ORDER BY p.id LIMIT $4
