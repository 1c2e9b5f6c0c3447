-- Purpose: blobs and diffs of chosen changes, in order; of the oldest without their diffs, where all together are too long. Parameters:
-- $1 uuid[] changes, $2 int8 bytes of diffs. Zero rows: none of them is there.
SELECT q.task_id, q.agent, q.old_mode, q.new_mode, q.old_blob, q.new_blob, CASE WHEN q.bytes <= $2 THEN p.diff END AS diff
FROM (SELECT c.*, sum(octet_length(coalesce(c.diff, ''))) OVER (ORDER BY c.checkpoint_id DESC NULLS LAST, c.id DESC) AS bytes
      FROM agentpool.pending_changes c WHERE c.id = ANY($1::uuid[])) q
JOIN agentpool.pending_changes p ON p.id = q.id ORDER BY q.checkpoint_id NULLS FIRST, q.id
