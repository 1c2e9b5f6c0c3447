-- Purpose: wakes other nodes when a lane that was just freed now waits for an agent that this node lacks.
-- Parameters: $1 uuid[] freed sessions, $2 text[] agents of this node. Zero rows: no such lane.
SELECT pg_notify('tasks_new', '')
WHERE EXISTS (SELECT FROM agentpool.lanes
              WHERE session_id = ANY ($1::uuid[]) AND state = 1 AND NOT head_agent = ANY ($2::text[]))
