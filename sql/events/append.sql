-- Purpose: appends events of several turns under their fences and renews their leases. Per lane: seq must follow last_seq;
-- a batch that is already there (its answer was lost) is a success; a lane whose fence moved on is not returned.
-- The stream cursor is bumped here: identity order is not commit order.
-- Parameters: one entry a batch $1 uuid[] sessions, $2 int8[] fences, $3 int8[] first seq, $4 int8[] last seq; $5 float8 lease
-- in seconds; one entry a row: $6 int8[] number of its batch from 1, $7 uuid[] task, $8 int8[] seq, $9 text[] type,
-- $10 text[] tool, $11 text[] content, $12 jsonb[] input, $13 text[] output, $14 int8[] bytes of the whole output where that is
-- a preview; one entry a whole output: $15 int8[] number of its batch, $16 uuid[] task, $17 int8[] seq, $18 int8[] bytes,
-- $19 bytea[] zstd. Zero rows: every lease is lost.
-- Rows belong to a batch, not to a session: a zombie's batch may stand beside that of the lane's new owner.
-- Returns per batch that holds its lane: last_seq before, whether it was taken, whether it was there already, and of a taken one
-- the position of its last row and the moment that all of its rows carry.
WITH wanted AS MATERIALIZED (
    SELECT w.batch, l.session_id, w.first_seq, w.final_seq, l.last_seq
    FROM agentpool.lanes l
    JOIN unnest($1::uuid[], $2::int8[], $3::int8[], $4::int8[]) WITH ORDINALITY AS w (session_id, fence, first_seq, final_seq, batch)
      ON w.session_id = l.session_id AND w.fence = l.fence
    WHERE l.state = 2 ORDER BY l.session_id FOR UPDATE OF l
), taken AS (
    UPDATE agentpool.lanes l SET last_seq = w.final_seq, lease_until = clock_timestamp() + make_interval(secs => $5)
    FROM wanted w WHERE l.session_id = w.session_id AND w.last_seq = w.first_seq - 1
    RETURNING w.batch, l.session_id, w.first_seq, w.final_seq
), cursors AS (
    UPDATE agentpool.session_streams s SET last_pos = s.last_pos + (t.final_seq - t.first_seq + 1)
    FROM taken t WHERE s.session_id = t.session_id
    RETURNING t.batch, s.session_id, s.last_pos, t.final_seq
), moment AS MATERIALIZED (
    SELECT clock_timestamp() AS at
), rows AS (
    INSERT INTO agentpool.task_messages (task_id, seq, session_id, pos, type, tool, content, input, output, output_bytes,
                                         created_at)
    SELECT r.task_id, r.seq, c.session_id, c.last_pos - (c.final_seq - r.seq), r.type, r.tool, r.content, r.input, r.output,
           r.output_bytes, (SELECT at FROM moment)
    FROM unnest($6::int8[], $7::uuid[], $8::int8[], $9::text[], $10::text[], $11::text[], $12::jsonb[], $13::text[], $14::int8[])
        AS r (batch, task_id, seq, type, tool, content, input, output, output_bytes)
    JOIN cursors c ON c.batch = r.batch
), outputs AS (
    INSERT INTO agentpool.tool_outputs (task_id, seq, bytes, body)
    SELECT o.task_id, o.seq, o.bytes, o.body
    FROM unnest($15::int8[], $16::uuid[], $17::int8[], $18::int8[], $19::bytea[]) AS o (batch, task_id, seq, bytes, body)
    JOIN cursors c ON c.batch = o.batch
)
SELECT w.batch, w.last_seq, c.batch IS NOT NULL AS taken, w.last_seq >= w.final_seq AS known, c.last_pos, (SELECT at FROM moment) AS at
FROM wanted w LEFT JOIN cursors c ON c.batch = w.batch
