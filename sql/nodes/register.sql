-- Purpose: a node starts: its newest incarnation, and the key of the advisory lock that proves that it lives.
-- Parameters: $1 uuid node, $2 uuid incarnation, $3 text hostname. Always one row.
INSERT INTO agentpool.nodes AS n (id, incarnation, hostname) VALUES ($1, $2, $3)
ON CONFLICT (id) DO UPDATE SET incarnation = excluded.incarnation, hostname = excluded.hostname,
    started_at = clock_timestamp(), last_seen_at = clock_timestamp()
RETURNING n.lock_key
