-- Purpose: records a checkpoint. The lane is held. Parameters: $1 uuid session, $2 uuid task or null, $3 int8 fence or
-- null, $4 text kind, $5 text commit, $6 uuid node. Always one row.
INSERT INTO agentpool.checkpoints (session_id, task_id, fence, kind, commit_id, node_id) VALUES ($1, $2, $3, $4, $5, $6)
