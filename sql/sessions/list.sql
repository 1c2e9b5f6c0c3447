-- Purpose: sessions, newest first, with what is queued in them. Parameters: $1 text status, $2 uuid project,
-- $3 uuid before this one, $4 uuid workspace (null: any), $5 int8 how many. Zero rows: none.
SELECT s.id, s.workspace_id, s.project_id, p.name AS project, s.title, s.status, s.permission_policy, s.created_at, s.closed_at,
       (SELECT count(*) FROM agentpool.tasks t WHERE t.session_id = s.id AND t.status IN ('queued', 'dispatched', 'running')) AS open_tasks,
       (SELECT w.worktree_path FROM agentpool.session_worktrees w WHERE w.session_id = s.id AND w.removed_at IS NULL LIMIT 1) AS worktree,
       ARRAY(SELECT a.agent || ' ' || a.status FROM agentpool.agent_sessions a WHERE a.session_id = s.id ORDER BY a.agent) AS agents
FROM agentpool.sessions s JOIN agentpool.projects p ON p.id = s.project_id
WHERE ($1::text IS NULL OR s.status = $1) AND ($2::uuid IS NULL OR s.project_id = $2) AND ($3::uuid IS NULL OR s.id < $3)
  AND ($4::uuid IS NULL OR s.workspace_id = $4) ORDER BY s.id DESC LIMIT $5
