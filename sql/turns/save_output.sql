-- Purpose: stores what the turn answered. The lane is held. Parameters: $1 uuid task, $2 text output.
-- Zero rows: no such task.
UPDATE agentpool.tasks SET output = $2 WHERE id = $1
