-- The whole first schema. Everything lives in schema `agentpool`; names are always qualified, so no search_path is needed.
-- The CHECKs repeat the enums of src/domain; a test compares the lists.

CREATE SCHEMA IF NOT EXISTS agentpool;

-- Our own time-ordered ids (PostgreSQL 15 to 17 have no uuidv7()): 48 bits of milliseconds, version 7, 74 random bits.
CREATE FUNCTION agentpool.uuid_v7() RETURNS uuid LANGUAGE sql VOLATILE PARALLEL SAFE AS $$
    SELECT encode(
        set_bit(set_bit(
            overlay(uuid_send(gen_random_uuid())
                    PLACING substring(int8send((extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3)
                    FROM 1 FOR 6),
            52, 1), 53, 1), 'hex')::uuid
$$;

-- Milliseconds since 1970 in a v7 id.
CREATE FUNCTION agentpool.uuid_v7_ms(id uuid) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT ('x' || lpad(left(replace(id::text, '-', ''), 12), 16, '0'))::bit(64)::bigint
$$;

-- The smallest v7-shaped id of a moment: the bound of a partition.
CREATE FUNCTION agentpool.uuid_floor(at timestamptz) RETURNS uuid LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid
$$;

-- One row: which database this is. A stream cursor of another epoch must resync.
CREATE TABLE agentpool.database_epoch (
    id boolean PRIMARY KEY DEFAULT true CHECK (id),
    epoch text NOT NULL DEFAULT left(replace(gen_random_uuid()::text, '-', ''), 12)
);
INSERT INTO agentpool.database_epoch DEFAULT VALUES;

-- One row that /readyz writes to: a database that answers SELECT may still be read-only.
CREATE TABLE agentpool.write_probe (id boolean PRIMARY KEY DEFAULT true CHECK (id), at timestamptz NOT NULL DEFAULT clock_timestamp());
INSERT INTO agentpool.write_probe DEFAULT VALUES;

CREATE TABLE agentpool.workspaces (
    id uuid PRIMARY KEY DEFAULT agentpool.uuid_v7(),
    name text NOT NULL UNIQUE CHECK (name ~ '^[a-z0-9][a-z0-9._-]{0,63}$'),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
INSERT INTO agentpool.workspaces (id, name) VALUES ('00000000-0000-7000-8000-000000000001', 'default');

-- One installation each; `incarnation` is its newest start, `lock_key` the advisory lock that start holds.
CREATE TABLE agentpool.nodes (
    id uuid PRIMARY KEY,
    incarnation uuid NOT NULL,
    lock_key integer GENERATED ALWAYS AS IDENTITY UNIQUE,
    hostname text NOT NULL,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    last_seen_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE TABLE agentpool.projects (
    id uuid PRIMARY KEY DEFAULT agentpool.uuid_v7(),
    workspace_id uuid NOT NULL DEFAULT '00000000-0000-7000-8000-000000000001' REFERENCES agentpool.workspaces (id),
    name text NOT NULL CHECK (name <> ''),
    path text,
    url text,
    node_id uuid,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT projects_source CHECK ((path IS NULL) <> (url IS NULL)),
    CONSTRAINT projects_path_has_node CHECK (path IS NULL OR (node_id IS NOT NULL AND path LIKE '/%')),
    UNIQUE NULLS NOT DISTINCT (workspace_id, path, url, node_id)
);

CREATE TABLE agentpool.agents (
    name text PRIMARY KEY CHECK (name ~ '^[a-z0-9][a-z0-9._-]{0,63}$'),
    backend text NOT NULL CHECK (backend IN ('opencode_server', 'acp_warm', 'scripted')),
    default_model text,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE TABLE agentpool.sessions (
    id uuid PRIMARY KEY DEFAULT agentpool.uuid_v7(),
    workspace_id uuid NOT NULL DEFAULT '00000000-0000-7000-8000-000000000001' REFERENCES agentpool.workspaces (id),
    project_id uuid NOT NULL REFERENCES agentpool.projects (id),
    title text NOT NULL DEFAULT '',
    status text NOT NULL DEFAULT 'open' CHECK (status IN ('open', 'closed')),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    closed_at timestamptz
);
CREATE INDEX sessions_by_project ON agentpool.sessions (project_id);

-- Outlives the session: the only row that knows where the work is. Never cascades.
CREATE TABLE agentpool.session_worktrees (
    session_id uuid NOT NULL REFERENCES agentpool.sessions (id),
    node_id uuid NOT NULL,
    worktree_path text NOT NULL,
    base_commit text NOT NULL,
    branch text NOT NULL,
    removed_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (session_id, node_id)
);

CREATE TABLE agentpool.agent_sessions (
    session_id uuid NOT NULL REFERENCES agentpool.sessions (id),
    agent text NOT NULL REFERENCES agentpool.agents (name),
    backend text NOT NULL,
    agent_session_id text,
    server_port integer,
    status text NOT NULL DEFAULT 'idle',
    node_id uuid,
    config_hash text,
    poisoned_reason text,
    input_tokens bigint NOT NULL DEFAULT 0,
    output_tokens bigint NOT NULL DEFAULT 0,
    cost_usd double precision NOT NULL DEFAULT 0,
    turns bigint NOT NULL DEFAULT 0,
    last_active_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (session_id, agent),
    CONSTRAINT agent_sessions_backend_chk CHECK (backend IN ('opencode_server', 'acp_warm', 'scripted')),
    CONSTRAINT agent_sessions_status_chk CHECK (status IN ('idle', 'active', 'crashed', 'closed'))
);

-- The queue. From outside only INSERT and cancel_requested_at (see the grants below).
CREATE TABLE agentpool.tasks (
    id uuid PRIMARY KEY DEFAULT agentpool.uuid_v7(),
    enqueued bigint GENERATED ALWAYS AS IDENTITY,
    session_id uuid NOT NULL REFERENCES agentpool.sessions (id),
    agent text NOT NULL REFERENCES agentpool.agents (name),
    prompt text NOT NULL,
    model text,
    mode_id text,
    thinking_option_id text,
    feature_values jsonb,
    priority smallint NOT NULL DEFAULT 0 CHECK (priority BETWEEN -100 AND 100),
    run_at timestamptz,
    status text NOT NULL DEFAULT 'queued',
    lane_position bigint,
    attempt integer NOT NULL DEFAULT 0,
    failures integer NOT NULL DEFAULT 0,
    -- How many nodes were lost under it; counted by the rescue alone.
    losses integer NOT NULL DEFAULT 0,
    max_failures integer NOT NULL DEFAULT 3 CHECK (max_failures BETWEEN 1 AND 100),
    fence bigint,
    cancel_requested_at timestamptz,
    output text,
    error text,
    failure_reason text,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    dispatched_at timestamptz,
    started_at timestamptz,
    finished_at timestamptz,
    CONSTRAINT tasks_id_is_v7 CHECK (substr(id::text, 15, 1) = '7'),
    CONSTRAINT tasks_id_in_time CHECK (
        agentpool.uuid_v7_ms(id) BETWEEN (extract(epoch FROM created_at) * 1000)::bigint - 86400000
                                     AND (extract(epoch FROM created_at) * 1000)::bigint + 86400000),
    CONSTRAINT tasks_prompt_not_empty CHECK (btrim(prompt, E' \t\r\n') <> ''),
    CONSTRAINT tasks_prompt_max_1_mib CHECK (octet_length(prompt) <= 1048576),
    CONSTRAINT tasks_status_chk CHECK (status IN ('queued', 'dispatched', 'running', 'completed', 'failed', 'cancelled')),
    CONSTRAINT tasks_reason_chk CHECK (failure_reason IN (
        'spawn_failed', 'agent_incompatible', 'agent_crashed', 'stalled', 'timeout', 'rate_limited', 'auth_required',
        'provider_error', 'bad_request', 'context_overflow', 'model_unknown', 'empty_turn', 'refused',
        'project_unusable', 'worktree_failed', 'node_lost', 'drained', 'database_failed', 'internal')),
    -- The engine reckons with these times: 'infinity' has no distance from now.
    CONSTRAINT tasks_run_at_in_range CHECK (
        run_at BETWEEN timestamptz '2000-01-01 00:00:00+00' AND timestamptz '9999-12-31 00:00:00+00'),
    CONSTRAINT tasks_cancel_requested_at_in_range CHECK (
        cancel_requested_at BETWEEN timestamptz '2000-01-01 00:00:00+00' AND timestamptz '9999-12-31 00:00:00+00'),
    CONSTRAINT tasks_final_is_finished CHECK ((status IN ('completed', 'failed', 'cancelled')) = (finished_at IS NOT NULL))
) WITH (fillfactor = 70);
CREATE INDEX tasks_unadmitted ON agentpool.tasks (enqueued)
    WHERE lane_position IS NULL AND status = 'queued' AND run_at IS NULL;
CREATE INDEX tasks_scheduled ON agentpool.tasks (run_at)
    WHERE lane_position IS NULL AND status = 'queued' AND run_at IS NOT NULL;
CREATE INDEX tasks_in_lane ON agentpool.tasks (session_id, lane_position)
    WHERE lane_position IS NOT NULL AND status = 'queued';
CREATE INDEX tasks_lane_priority ON agentpool.tasks (session_id, priority DESC)
    WHERE lane_position IS NOT NULL AND status = 'queued';
CREATE INDEX tasks_cancel_asked ON agentpool.tasks (session_id)
    WHERE cancel_requested_at IS NOT NULL AND status = 'queued';
-- For counts and the oldest: what is queued is a small part of a long history.
CREATE INDEX tasks_queued ON agentpool.tasks (created_at) WHERE status = 'queued';
CREATE INDEX tasks_by_session ON agentpool.tasks (session_id, id);

-- One row a session: mutex, place in the fair round robin, head, home, lease and fence. Only the engine touches it.
-- state: 0 idle, 1 ready, 2 leased, 3 waiting until wake_at. home_node nil = no home yet.
-- due = ready_at - prio * 30 s: one sort key, so that priority helps and nobody starves.
-- Lanes are locked in the order of session_id, and always before tasks.
CREATE TABLE agentpool.lanes (
    session_id uuid PRIMARY KEY REFERENCES agentpool.sessions (id),
    state smallint NOT NULL DEFAULT 0 CHECK (state BETWEEN 0 AND 3),
    paused boolean NOT NULL DEFAULT false,
    prio smallint NOT NULL DEFAULT 0,
    ready_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    due timestamptz NOT NULL DEFAULT clock_timestamp(),
    wake_at timestamptz,
    head_task uuid,
    head_agent text,
    home_node uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    admitted bigint NOT NULL DEFAULT 0,
    fence bigint NOT NULL DEFAULT 0,
    lease_until timestamptz,
    lease_node uuid,
    lease_incarnation uuid,
    last_seq bigint NOT NULL DEFAULT 0,
    CONSTRAINT lanes_lease CHECK ((state = 2) = (lease_until IS NOT NULL))
) WITH (fillfactor = 50);
CREATE INDEX lanes_ready ON agentpool.lanes (home_node, head_agent, due) WHERE state = 1;
CREATE INDEX lanes_waiting ON agentpool.lanes (wake_at) WHERE state = 3;
-- lease_until is in no index: renewals stay HOT.
CREATE INDEX lanes_leased ON agentpool.lanes (session_id) WHERE state = 2;

-- The cursor of a session's stream, bumped in the statement that appends: identity order is not commit order.
CREATE TABLE agentpool.session_streams (
    session_id uuid PRIMARY KEY REFERENCES agentpool.sessions (id),
    last_pos bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 50);

-- The event log, partitioned by the week of the task's id; no default partition.
CREATE TABLE agentpool.task_messages (
    task_id uuid NOT NULL,
    seq bigint NOT NULL,
    session_id uuid NOT NULL,
    pos bigint NOT NULL,
    type text NOT NULL CHECK (type IN ('text', 'reasoning', 'tool_call', 'tool_update', 'plan', 'commands', 'mode_changed',
                                       'usage', 'permission', 'retry', 'notice', 'turn_started', 'turn_ended')),
    tool text,
    content text,
    input jsonb,
    output text,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (task_id, seq)
) PARTITION BY RANGE (task_id);
CREATE INDEX task_messages_stream ON agentpool.task_messages (session_id, pos);

-- Makes the weekly partitions from `since` to two weeks ahead of now. Returns how many it made. Of several nodes one makes
-- them and the others wait. ATTACH, since CREATE TABLE .. PARTITION OF locks the parent exclusively: one open psql that has
-- read the log would stop every append behind it.
CREATE FUNCTION agentpool.make_partitions(since timestamptz) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    week timestamptz := date_trunc('week', since AT TIME ZONE 'UTC') AT TIME ZONE 'UTC';
    made integer := 0;
    part text;
BEGIN
    PERFORM pg_advisory_xact_lock(1095782475, 1);
    WHILE week < clock_timestamp() + interval '14 days' LOOP
        part := 'task_messages_' || to_char(week AT TIME ZONE 'UTC', 'YYYYMMDD');
        IF to_regclass('agentpool.' || part) IS NULL THEN
            EXECUTE format('CREATE TABLE agentpool.%I (LIKE agentpool.task_messages INCLUDING DEFAULTS INCLUDING CONSTRAINTS)',
                           part);
            EXECUTE format('ALTER TABLE agentpool.task_messages ATTACH PARTITION agentpool.%I FOR VALUES FROM (%L) TO (%L)',
                           part, agentpool.uuid_floor(week), agentpool.uuid_floor(week + interval '7 days'));
            made := made + 1;
        END IF;
        week := week + interval '7 days';
    END LOOP;
    RETURN made;
END $$;
SELECT agentpool.make_partitions(clock_timestamp() - interval '7 days');

CREATE TABLE agentpool.checkpoints (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    session_id uuid NOT NULL REFERENCES agentpool.sessions (id),
    task_id uuid,
    fence bigint,
    kind text NOT NULL CHECK (kind IN ('before', 'after', 'interrupted', 'final')),
    commit_id text NOT NULL,
    node_id uuid NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX checkpoints_by_session ON agentpool.checkpoints (session_id, id DESC);
CREATE INDEX checkpoints_by_task ON agentpool.checkpoints (task_id, fence);

CREATE TABLE agentpool.pending_changes (
    id uuid PRIMARY KEY DEFAULT agentpool.uuid_v7(),
    session_id uuid NOT NULL REFERENCES agentpool.sessions (id),
    task_id uuid,
    agent text NOT NULL,
    file_path text NOT NULL,
    old_path text,
    path_raw bytea,
    operation text NOT NULL CHECK (operation IN ('create', 'modify', 'delete', 'rename')),
    old_mode text,
    new_mode text,
    is_binary boolean NOT NULL DEFAULT false,
    old_blob text,
    new_blob text,
    diff text CHECK (octet_length(diff) <= 1048576),
    additions bigint NOT NULL DEFAULT 0,
    deletions bigint NOT NULL DEFAULT 0,
    status text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'applied', 'rejected', 'superseded')),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX pending_changes_by_session ON agentpool.pending_changes (session_id, id);
CREATE INDEX pending_changes_by_task ON agentpool.pending_changes (task_id);

CREATE TABLE agentpool.permission_requests (
    id uuid PRIMARY KEY DEFAULT agentpool.uuid_v7(),
    session_id uuid NOT NULL REFERENCES agentpool.sessions (id),
    task_id uuid NOT NULL,
    agent text NOT NULL,
    fence bigint NOT NULL,
    agent_request_id text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('tool', 'question', 'plan', 'elicitation')),
    title text NOT NULL,
    payload jsonb NOT NULL,
    options jsonb,
    status text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'answered', 'expired', 'cancelled')),
    answer jsonb,
    answered_by text,
    deadline timestamptz,
    delivered_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (task_id, fence, agent_request_id),
    CONSTRAINT permission_requests_answered_chk CHECK (status <> 'answered' OR answer IS NOT NULL)
);
CREATE INDEX permission_requests_open ON agentpool.permission_requests (task_id) WHERE status = 'pending';

CREATE TABLE agentpool.idempotency_keys (
    workspace_id uuid NOT NULL REFERENCES agentpool.workspaces (id),
    key text NOT NULL CHECK (octet_length(key) BETWEEN 1 AND 255),
    request_hash text NOT NULL,
    task_id uuid NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (workspace_id, key)
);
CREATE INDEX idempotency_keys_by_age ON agentpool.idempotency_keys (created_at);

CREATE TABLE agentpool.task_usage (
    task_id uuid NOT NULL,
    fence bigint NOT NULL,
    agent text NOT NULL,
    model text NOT NULL DEFAULT '',
    input_tokens bigint NOT NULL,
    output_tokens bigint NOT NULL,
    reasoning_tokens bigint NOT NULL,
    cache_read_tokens bigint NOT NULL,
    cache_write_tokens bigint NOT NULL,
    cost_usd double precision NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (task_id, fence, model)
);

-- Hints. A trigger only notifies; it never touches a lane: one idle psql transaction would starve a node's leases.
CREATE FUNCTION agentpool.hint() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify(TG_ARGV[0], '');
    RETURN NULL;
END $$;
CREATE TRIGGER tasks_new AFTER INSERT ON agentpool.tasks
    FOR EACH STATEMENT EXECUTE FUNCTION agentpool.hint('tasks_new');
CREATE TRIGGER tasks_cancel AFTER UPDATE OF cancel_requested_at ON agentpool.tasks
    FOR EACH STATEMENT EXECUTE FUNCTION agentpool.hint('tasks_cancel');
CREATE TRIGGER permissions_answered AFTER UPDATE OF answer ON agentpool.permission_requests
    FOR EACH STATEMENT EXECUTE FUNCTION agentpool.hint('permissions_answered');

CREATE FUNCTION agentpool.refuse_delete_of_unfinished_task() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.status NOT IN ('completed', 'failed', 'cancelled') THEN
        RAISE EXCEPTION 'task % is %: cancel it (UPDATE agentpool.tasks SET cancel_requested_at = now()) and delete it when it has ended', OLD.id, OLD.status;
    END IF;
    RETURN OLD;
END $$;
CREATE TRIGGER tasks_keep_unfinished BEFORE DELETE ON agentpool.tasks
    FOR EACH ROW EXECUTE FUNCTION agentpool.refuse_delete_of_unfinished_task();

-- The role for everyone but the engine: put work in, ask to cancel, read. Creating it needs CREATEROLE; without it
-- the owner of the database grants by hand, so a refusal is no error.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'agentpool_client') THEN
        CREATE ROLE agentpool_client NOLOGIN;
    END IF;
EXCEPTION
    WHEN duplicate_object OR unique_violation OR insufficient_privilege THEN NULL;
END $$;
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'agentpool_client') THEN
        GRANT USAGE ON SCHEMA agentpool TO agentpool_client;
        GRANT SELECT ON agentpool.tasks, agentpool.sessions, agentpool.projects, agentpool.agents, agentpool.workspaces,
            agentpool.task_messages, agentpool.pending_changes, agentpool.permission_requests, agentpool.agent_sessions,
            agentpool.session_worktrees, agentpool.task_usage TO agentpool_client;
        GRANT INSERT (project_id, title) ON agentpool.sessions TO agentpool_client;
        GRANT INSERT (session_id, agent, prompt, model, mode_id, thinking_option_id, feature_values, priority, run_at,
                      max_failures) ON agentpool.tasks TO agentpool_client;
        GRANT UPDATE (cancel_requested_at) ON agentpool.tasks TO agentpool_client;
    END IF;
EXCEPTION
    WHEN insufficient_privilege THEN NULL;
END $$;
