-- Purpose: a lane and a stream cursor for every session about to be admitted; the lane of a local project has its home
-- from the start. Parameters: $1 uuid[] sessions. Zero rows: all were there.
WITH streams AS (
    INSERT INTO agentpool.session_streams (session_id)
    SELECT id FROM agentpool.sessions WHERE id = ANY ($1::uuid[]) ORDER BY id ON CONFLICT DO NOTHING
)
INSERT INTO agentpool.lanes (session_id, home_node)
SELECT s.id, coalesce(p.node_id, '00000000-0000-0000-0000-000000000000')
FROM agentpool.sessions s JOIN agentpool.projects p ON p.id = s.project_id
WHERE s.id = ANY ($1::uuid[]) ORDER BY s.id
ON CONFLICT DO NOTHING
