-- Purpose: tells a finish whose answer was lost from a lost lease: the task left the lease under this very fence, and as
-- this finish says. The fence alone does not tell: a rescue leaves it on the task until the next claim, and a zombie would
-- hear that its end was written. What went back to the queue may have been cancelled there since.
-- Parameters: $1 uuid[] tasks, $2 int8[] fences, $3 text[] status, $4 text[] reason or null. Zero rows: none did.
SELECT t.id, t.fence FROM agentpool.tasks t
JOIN unnest($1::uuid[], $2::int8[], $3::text[], $4::text[]) AS w (id, fence, status, reason) ON w.id = t.id AND w.fence = t.fence
WHERE (t.status = w.status OR (w.status = 'queued' AND t.status = 'cancelled'))
  AND t.failure_reason IS NOT DISTINCT FROM w.reason
