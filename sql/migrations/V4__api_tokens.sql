-- Who may use the API. Only the hash of a token is kept: who reads this table gets in nowhere.
CREATE TABLE agentpool.api_tokens (
    id uuid PRIMARY KEY DEFAULT agentpool.uuid_v7(),
    name text NOT NULL CHECK (octet_length(name) BETWEEN 1 AND 100),
    scope text NOT NULL,
    -- Null: every workspace.
    workspace_id uuid REFERENCES agentpool.workspaces (id),
    hash bytea NOT NULL UNIQUE CHECK (octet_length(hash) = 32),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    last_used_at timestamptz,
    revoked_at timestamptz,
    CONSTRAINT api_tokens_scope_chk CHECK (scope IN ('admin', 'client', 'runner')),
    CONSTRAINT api_tokens_admin_is_everywhere CHECK ((scope = 'admin') = (workspace_id IS NULL))
);
