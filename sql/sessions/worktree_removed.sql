-- Purpose: remembers that a worktree was taken away; the row stays. Parameters: $1 uuid session, $2 uuid node.
-- Zero rows: there was none.
UPDATE agentpool.session_worktrees SET removed_at = clock_timestamp() WHERE session_id = $1 AND node_id = $2
