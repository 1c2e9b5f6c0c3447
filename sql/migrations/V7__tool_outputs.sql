-- The whole of a tool's output that is longer than its event shows. Not partitioned as the events are: there are few, found by the
-- event's key alone, and deleted by the range of their tasks' ids when the events' week goes.
ALTER TABLE agentpool.task_messages ADD COLUMN output_bytes bigint;

CREATE TABLE agentpool.tool_outputs (
    task_id uuid NOT NULL,
    seq bigint NOT NULL,
    -- Of the text, before it was compressed (and cut, beyond the limit).
    bytes bigint NOT NULL CHECK (bytes > 0),
    -- zstd.
    body bytea NOT NULL,
    PRIMARY KEY (task_id, seq)
);
-- It is compressed already.
ALTER TABLE agentpool.tool_outputs ALTER COLUMN body SET STORAGE EXTERNAL;

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'agentpool_client') THEN
        GRANT SELECT ON agentpool.tool_outputs TO agentpool_client;
    END IF;
EXCEPTION
    WHEN insufficient_privilege THEN NULL;
END $$;
