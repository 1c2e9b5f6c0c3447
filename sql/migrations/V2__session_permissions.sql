-- A session may have its own answer to what agents ask: null leaves it to the agent's configuration. The word for `ask` has
-- the agent's deadline and default. agentpool_client may not set it: whoever puts work in must not loosen what holds for it.
ALTER TABLE agentpool.sessions
    ADD COLUMN permission_policy text,
    ADD CONSTRAINT sessions_permission_policy_chk CHECK (permission_policy IN ('allow', 'allow_reads', 'deny', 'ask'));

-- A request that an interrupted try had made, and that the next try makes again, names the one that was closed.
ALTER TABLE agentpool.permission_requests ADD COLUMN repeats uuid;

-- A prompt of nothing but white space is empty whatever the space is called: the API takes Unicode's list, and so does the
-- table from now on. Other encodings than UTF-8 have not all of these characters and keep the list of ASCII.
DO $$
DECLARE
    spaces text := E' \t\r\n\x0B\x0C';
BEGIN
    IF current_setting('server_encoding') = 'UTF8' THEN
        spaces := spaces || (SELECT string_agg(chr(code), '') FROM unnest(ARRAY[
            133, 160, 5760, 8192, 8193, 8194, 8195, 8196, 8197, 8198, 8199, 8200, 8201, 8202, 8232, 8233, 8239, 8287, 12288]) AS code);
    END IF;
    ALTER TABLE agentpool.tasks DROP CONSTRAINT tasks_prompt_not_empty;
    -- What came in through the gap is ended, not run, and must not break the constraint when its row is written again.
    EXECUTE format('UPDATE agentpool.tasks SET prompt = %L, cancel_requested_at = CASE
                        WHEN status IN (%L, %L, %L) THEN coalesce(cancel_requested_at, clock_timestamp())
                        ELSE cancel_requested_at END
                    WHERE btrim(prompt, %L) = %L', '(blank)', 'queued', 'dispatched', 'running', spaces, '');
    EXECUTE format('ALTER TABLE agentpool.tasks ADD CONSTRAINT tasks_prompt_not_empty CHECK (btrim(prompt, %L) <> %L)', spaces, '');
END $$;
