-- Purpose: one row a changed file of a turn. A report that is sent twice, because its answer was lost, counts once: what it
-- stored the first time is superseded and belongs to no state. The lane is held, or the worktree is. Parameters: $1 uuid session,
-- $2 uuid task or null, $3 text agent or 'user', then arrays: $4 text[] path, $5 text[] old path, $6 bytea[] raw path,
-- $7 text[] operation, $8 text[] old mode, $9 text[] new mode, $10 bool[] binary, $11 text[] old blob, $12 text[] new blob,
-- $13 text[] diff, $14 int8[] additions, $15 int8[] deletions; $16 int8 the checkpoint that holds them,
-- $17 text status. Zero rows: nothing changed.
WITH undone AS (
    UPDATE agentpool.pending_changes SET status = 'superseded', checkpoint_id = NULL
    WHERE task_id = $2 AND agent = $3 AND status = 'pending' AND $17 = 'pending'
)
INSERT INTO agentpool.pending_changes (session_id, task_id, agent, file_path, old_path, path_raw, operation, old_mode, new_mode,
                                       is_binary, old_blob, new_blob, diff, additions, deletions, checkpoint_id, status)
SELECT $1, $2, $3, c.*, $16, $17 FROM unnest($4::text[], $5::text[], $6::bytea[], $7::text[], $8::text[], $9::text[], $10::bool[],
                                   $11::text[], $12::text[], $13::text[], $14::int8[], $15::int8[])
    AS c (path, old_path, raw, operation, old_mode, new_mode, is_binary, old_blob, new_blob, diff, additions, deletions)
