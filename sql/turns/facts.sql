-- Purpose: what an executor needs to know of a session and one conversation before a turn. Parameters: $1 uuid session,
-- $2 text agent, $3 uuid node, $4 uuid task. Zero rows: no such session.
SELECT s.title, s.status AS session_status, s.permission_policy, p.path, p.url, p.node_id AS project_node,
       a.agent_session_id, a.status AS agent_session_status, a.poisoned_reason, a.backend, a.config_hash, a.node_id AS agent_session_node,
       w.worktree_path, w.base_commit, w.branch,
       (SELECT c.commit_id FROM agentpool.checkpoints c
        WHERE c.task_id = $4 AND c.kind = 'before' AND c.node_id = $3 ORDER BY c.id LIMIT 1) AS checkpoint_before,
       last.commit_id AS last_checkpoint, last.task_id AS last_task, last.agent AS last_agent,
       ARRAY(SELECT DISTINCT c.fence FROM agentpool.checkpoints c
             WHERE c.task_id = $4 AND c.kind = 'before' AND c.fence IS NOT NULL ORDER BY c.fence DESC) AS earlier_fences
FROM agentpool.sessions s JOIN agentpool.projects p ON p.id = s.project_id
LEFT JOIN agentpool.agent_sessions a ON a.session_id = s.id AND a.agent = $2
LEFT JOIN agentpool.session_worktrees w ON w.session_id = s.id AND w.node_id = $3
LEFT JOIN LATERAL (
    SELECT c.commit_id, t.id AS task_id, t.agent FROM agentpool.checkpoints c
    LEFT JOIN agentpool.tasks t ON t.id = c.task_id AND c.kind = 'before'
    WHERE c.session_id = s.id AND c.node_id = $3 AND c.kind <> 'interrupted' ORDER BY c.id DESC LIMIT 1) last ON true
WHERE s.id = $1
