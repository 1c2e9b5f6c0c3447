-- Purpose: changes of a session in order, as many as fit into a bound of bytes, at least one. Parameters: $1 uuid session,
-- $2 uuid of that task or null, $3 text status or null, $4 uuid after this one or null, $5 int8 how many, $6 int8 bytes of diffs.
-- `found` is how many there would have been without the bound. Zero rows: none.
SELECT * FROM (
    SELECT p.*, count(*) OVER () AS found, sum(octet_length(coalesce(p.diff, ''))) OVER (ORDER BY p.id) AS bytes, row_number() OVER (ORDER BY p.id) AS n
    FROM (SELECT id, session_id, task_id, agent, file_path, old_path, operation, old_mode, new_mode, is_binary, diff, additions, deletions,
                 status, created_at
          FROM agentpool.pending_changes
          WHERE session_id = $1 AND ($2::uuid IS NULL OR task_id = $2) AND ($3::text IS NULL OR status = $3) AND ($4::uuid IS NULL OR id > $4)
          ORDER BY id LIMIT $5) p
) q WHERE q.n = 1 OR q.bytes <= $6 ORDER BY q.id
