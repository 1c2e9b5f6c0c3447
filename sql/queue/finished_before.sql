-- Purpose: tells a finish whose answer was lost from a lost lease: the task already left the lease under this very fence.
-- Parameters: $1 uuid[] tasks, $2 int8[] fences. Zero rows: none did.
SELECT t.id, t.fence FROM agentpool.tasks t JOIN unnest($1::uuid[], $2::int8[]) AS w (id, fence) ON w.id = t.id AND w.fence = t.fence
WHERE t.status NOT IN ('dispatched', 'running')
