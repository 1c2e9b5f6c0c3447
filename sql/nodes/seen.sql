-- Purpose: for people: when a node was last there. Parameters: $1 uuid node. Zero rows: the node was removed.
UPDATE agentpool.nodes SET last_seen_at = clock_timestamp() WHERE id = $1
