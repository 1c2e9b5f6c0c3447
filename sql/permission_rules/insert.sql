-- Purpose: a new rule; made before, it is that one. Parameters: $1 uuid workspace, $2 uuid session or null, $3 text agent or null,
-- $4 text tool, $5 text pattern or null, $6 bool exact, $7 text decision, $8 text who, $9 int8 most rules of one session and
-- agent. Zero rows: there are so many already.
INSERT INTO agentpool.permission_rules (workspace_id, session_id, agent, tool, pattern, exact, decision, created_by)
SELECT $1::uuid, $2::uuid, $3::text, $4::text, $5::text, $6::bool, $7::text, $8::text
WHERE (SELECT count(*) FROM agentpool.permission_rules
       WHERE workspace_id = $1 AND session_id IS NOT DISTINCT FROM $2 AND agent IS NOT DISTINCT FROM $3) < $9
   OR EXISTS (SELECT 1 FROM agentpool.permission_rules
              WHERE workspace_id = $1 AND session_id IS NOT DISTINCT FROM $2 AND agent IS NOT DISTINCT FROM $3 AND tool = $4
                AND pattern IS NOT DISTINCT FROM $5 AND exact = $6 AND decision = $7)
ON CONFLICT ON CONSTRAINT permission_rules_once DO UPDATE SET tool = excluded.tool
RETURNING id
