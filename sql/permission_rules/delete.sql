-- Purpose: a rule holds no more. Parameters: $1 uuid. Zero rows: no such rule.
DELETE FROM agentpool.permission_rules WHERE id = $1 RETURNING id
