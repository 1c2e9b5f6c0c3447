-- What happened to lanes and tasks, and who wrote: each node has a role of its own. A writer that does not hold the lane at
-- that moment is a zombie whose fence was not checked.
CREATE SCHEMA audit;
CREATE TABLE audit.writers (role text PRIMARY KEY, node uuid NOT NULL);
CREATE TABLE audit.history (
    n bigserial PRIMARY KEY, at timestamptz NOT NULL DEFAULT clock_timestamp(), who text NOT NULL DEFAULT session_user,
    what text NOT NULL, session_id uuid, task_id uuid, fence bigint, node uuid, note text
);

CREATE FUNCTION audit.lane() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.state = 2 AND (OLD.state <> 2 OR NEW.lease_incarnation IS DISTINCT FROM OLD.lease_incarnation) THEN
        INSERT INTO audit.history (what, session_id, task_id, fence, node) VALUES ('leased', NEW.session_id, NEW.head_task, NEW.fence, NEW.lease_node);
    ELSIF OLD.state = 2 AND NEW.state <> 2 THEN
        INSERT INTO audit.history (what, session_id, task_id, fence, node) VALUES ('freed', OLD.session_id, OLD.head_task, OLD.fence, OLD.lease_node);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER audit AFTER UPDATE ON agentpool.lanes FOR EACH ROW WHEN (OLD.state = 2 OR NEW.state = 2) EXECUTE FUNCTION audit.lane();

CREATE FUNCTION audit.task() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO audit.history (what, session_id, task_id, fence, note) VALUES ('status', NEW.session_id, NEW.id, NEW.fence, OLD.status || '>' || NEW.status);
    RETURN NULL;
END $$;
CREATE TRIGGER audit AFTER UPDATE OF status ON agentpool.tasks FOR EACH ROW WHEN (OLD.status <> NEW.status) EXECUTE FUNCTION audit.task();

CREATE FUNCTION audit.write() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO audit.history (what, session_id, node, note)
    SELECT 'zombie', NEW.session_id, w.node, TG_TABLE_NAME
    FROM audit.writers w LEFT JOIN agentpool.lanes l ON l.session_id = NEW.session_id AND l.state = 2
    WHERE w.role = session_user AND l.lease_node IS DISTINCT FROM w.node;
    RETURN NULL;
END $$;
CREATE TRIGGER audit AFTER INSERT ON agentpool.task_messages FOR EACH ROW EXECUTE FUNCTION audit.write();
CREATE TRIGGER audit AFTER INSERT ON agentpool.checkpoints FOR EACH ROW EXECUTE FUNCTION audit.write();
CREATE TRIGGER audit AFTER INSERT ON agentpool.pending_changes FOR EACH ROW EXECUTE FUNCTION audit.write();
CREATE TRIGGER audit AFTER INSERT OR UPDATE ON agentpool.session_worktrees FOR EACH ROW EXECUTE FUNCTION audit.write();
