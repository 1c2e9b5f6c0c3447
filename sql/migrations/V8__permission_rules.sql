-- What people allowed or forbade for more than one question of an agent: in a session, of an agent in its workspace, or of both.
-- Rules are taken away by DELETE; what they answered keeps their ids. agentpool_client may read them only: whoever puts work in
-- must not loosen what holds for it.
CREATE TABLE agentpool.permission_rules (
    id uuid PRIMARY KEY DEFAULT agentpool.uuid_v7(),
    workspace_id uuid NOT NULL REFERENCES agentpool.workspaces (id),
    session_id uuid REFERENCES agentpool.sessions (id),
    agent text REFERENCES agentpool.agents (name),
    tool text NOT NULL CHECK (octet_length(tool) BETWEEN 1 AND 100),
    pattern text CHECK (octet_length(pattern) BETWEEN 1 AND 1000),
    -- The pattern is the whole command, or the path itself.
    exact boolean NOT NULL DEFAULT false,
    decision text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    created_by text NOT NULL CHECK (octet_length(created_by) BETWEEN 1 AND 200),
    CONSTRAINT permission_rules_decision_chk CHECK (decision IN ('allow', 'deny')),
    CONSTRAINT permission_rules_of_something CHECK (session_id IS NOT NULL OR agent IS NOT NULL),
    CONSTRAINT permission_rules_once UNIQUE NULLS NOT DISTINCT (workspace_id, session_id, agent, tool, pattern, exact, decision)
);

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'agentpool_client') THEN
        GRANT SELECT ON agentpool.permission_rules TO agentpool_client;
    END IF;
EXCEPTION
    WHEN insufficient_privilege THEN NULL;
END $$;
