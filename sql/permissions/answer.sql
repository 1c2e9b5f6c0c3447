-- Purpose: a person answers; of two answers one wins. Parameters: $1 uuid request, $2 jsonb answer, $3 text who.
-- Zero rows: unknown, or no longer pending.
UPDATE agentpool.permission_requests SET status = 'answered', answer = $2, answered_by = $3
WHERE id = $1 AND status = 'pending' RETURNING id
