-- Purpose: after a restore, the changes that lie in the line of the present state wait for review again, all others are superseded;
-- what was applied stays so. Parameters: $1 uuid session, $2 int8 the restored state. Zero rows: nothing was to be settled.
WITH line AS MATERIALIZED (SELECT agentpool.checkpoint_line($2) AS id),
settled AS (
    SELECT p.id, CASE WHEN p.checkpoint_id NOT IN (SELECT line.id FROM line) THEN 'superseded'
                      WHEN p.rejected_by IN (SELECT line.id FROM line) THEN 'rejected' ELSE 'pending' END AS status
    FROM agentpool.pending_changes p
    WHERE p.session_id = $1 AND p.status <> 'applied' AND p.checkpoint_id IS NOT NULL
)
UPDATE agentpool.pending_changes p SET status = s.status FROM settled s WHERE p.id = s.id AND p.status <> s.status
