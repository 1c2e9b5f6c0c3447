-- Purpose: one session with its project and worktree. Of a worktree that was removed the path is null, and the rest stays:
-- its checkpoints can still be applied. Parameters: $1 uuid. Zero rows: no such session.
SELECT s.id, s.workspace_id, s.project_id, p.name AS project, p.path, p.url, p.node_id AS project_node, s.title, s.status, s.permission_policy, s.created_at, s.closed_at,
       (SELECT count(*) FROM agentpool.tasks t WHERE t.session_id = s.id AND t.status IN ('queued', 'dispatched', 'running')) AS open_tasks,
       CASE WHEN w.removed_at IS NULL THEN w.worktree_path END AS worktree, w.node_id AS home_node, w.base_commit, w.branch,
       ARRAY(SELECT a.agent || ' ' || a.status FROM agentpool.agent_sessions a WHERE a.session_id = s.id ORDER BY a.agent) AS agents,
       (SELECT c.commit_id FROM agentpool.checkpoints c WHERE c.session_id = s.id AND c.kind <> 'interrupted' ORDER BY c.id DESC LIMIT 1) AS last_checkpoint
FROM agentpool.sessions s JOIN agentpool.projects p ON p.id = s.project_id
LEFT JOIN LATERAL (SELECT * FROM agentpool.session_worktrees x WHERE x.session_id = s.id
                   ORDER BY x.removed_at IS NOT NULL, x.created_at DESC LIMIT 1) w ON true
WHERE s.id = $1
