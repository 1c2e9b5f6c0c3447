-- Purpose: which of the running tasks were asked to be cancelled. Parameters: $1 uuid[] tasks. Zero rows: none.
SELECT id FROM agentpool.tasks WHERE id = ANY ($1::uuid[]) AND cancel_requested_at IS NOT NULL
