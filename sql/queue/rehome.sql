-- Purpose: frees lanes of dead homes that another node may run: a project that is cloned by URL, and no worktree made yet.
-- Parameters: $1 uuid[] dead nodes, $2 int8 how many. Zero rows: none can move.
WITH lane AS MATERIALIZED (
    SELECT l.session_id FROM agentpool.lanes l
    JOIN agentpool.sessions s ON s.id = l.session_id JOIN agentpool.projects p ON p.id = s.project_id
    WHERE l.home_node = ANY ($1::uuid[]) AND l.state <> 2 AND p.url IS NOT NULL
      AND NOT EXISTS (SELECT FROM agentpool.session_worktrees w WHERE w.session_id = l.session_id)
    ORDER BY l.session_id LIMIT $2 FOR UPDATE OF l SKIP LOCKED
)
UPDATE agentpool.lanes l SET home_node = '00000000-0000-0000-0000-000000000000'
FROM lane WHERE l.session_id = lane.session_id RETURNING l.session_id
