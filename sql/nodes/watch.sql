-- Purpose: every node with its incarnation, and whether its lock is held now. Parameters: none. Zero rows: no node ever started.
SELECT n.id, n.incarnation,
       EXISTS (SELECT FROM pg_locks l WHERE l.locktype = 'advisory' AND l.classid = 1095782477::oid
               AND l.objid = n.lock_key::oid AND l.objsubid = 2 AND l.granted
               AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())) AS alive
FROM agentpool.nodes n
