-- Purpose: the embedded server's own role finds the tables without their schema. Parameters: none. Zero rows: always.
DO $$ BEGIN
    EXECUTE format('ALTER ROLE %I IN DATABASE %I SET search_path = agentpool, public', current_user, current_database());
END $$
