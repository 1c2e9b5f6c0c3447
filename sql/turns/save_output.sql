-- Purpose: stores what the turn answered. The lane is held, so a row that somebody has locked is an error at once (55P03,
-- try again) and never waited for: renewals would wait behind the lane.
-- Parameters: $1 uuid task, $2 text output. Zero rows: no such task.
WITH free AS MATERIALIZED (
    SELECT id FROM agentpool.tasks WHERE id = $1 FOR UPDATE NOWAIT
)
UPDATE agentpool.tasks t SET output = $2 FROM free WHERE t.id = free.id
