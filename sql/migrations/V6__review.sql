-- What a person does with the changes of a session leaves checkpoints too: `kept` is the state that was found before it,
-- `restored` and `rejected` the state after it.
ALTER TABLE agentpool.checkpoints
    -- Of a restored state: the checkpoint that it is.
    ADD COLUMN restores bigint REFERENCES agentpool.checkpoints (id),
    DROP CONSTRAINT checkpoints_kind_check,
    ADD CONSTRAINT checkpoints_kind_check
        CHECK (kind IN ('before', 'after', 'interrupted', 'final', 'kept', 'restored', 'rejected')),
    ADD CONSTRAINT checkpoints_restores_chk CHECK (restores IS NULL OR kind = 'restored');

ALTER TABLE agentpool.pending_changes
    -- The checkpoint that holds the change. Null: of an older version of this schema, or of a report that was sent twice.
    ADD COLUMN checkpoint_id bigint REFERENCES agentpool.checkpoints (id),
    -- The checkpoint that took it back.
    ADD COLUMN rejected_by bigint REFERENCES agentpool.checkpoints (id);

-- The states that a state came from, itself included: each stands on the one before it, a restored one on what it restores.
-- What lies between those two is no part of the line, nor is what an interrupted turn left: the next try stands on the one before it.
CREATE FUNCTION agentpool.checkpoint_line(newest bigint) RETURNS SETOF bigint LANGUAGE sql STABLE AS $$
    WITH RECURSIVE line AS (
        SELECT c.id, c.session_id, c.restores FROM agentpool.checkpoints c WHERE c.id = newest
        UNION ALL
        SELECT p.id, p.session_id, p.restores FROM line l CROSS JOIN LATERAL (
            (SELECT c.id, c.session_id, c.restores FROM agentpool.checkpoints c WHERE c.id = l.restores)
            UNION ALL
            (SELECT c.id, c.session_id, c.restores FROM agentpool.checkpoints c
             WHERE l.restores IS NULL AND c.session_id = l.session_id AND c.id < l.id AND c.kind <> 'interrupted' ORDER BY c.id DESC LIMIT 1)
        ) p
    )
    SELECT id FROM line
$$;
