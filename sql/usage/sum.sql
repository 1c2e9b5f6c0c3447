-- Purpose: what turns used, summed by one thing. Parameters: $1 text by (agent, model, day, session, project), $2 timestamptz since,
-- $3 timestamptz until, $4 uuid workspace or null, $5 int8 how many. Zero rows: nothing was used.
SELECT CASE $1 WHEN 'agent' THEN u.agent WHEN 'model' THEN u.model WHEN 'session' THEN t.session_id::text WHEN 'project' THEN p.name
               ELSE to_char(u.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD') END AS key,
       count(DISTINCT (u.task_id, u.fence)) AS turns, sum(u.input_tokens)::int8 AS input_tokens,
       sum(u.output_tokens)::int8 AS output_tokens, sum(u.reasoning_tokens)::int8 AS reasoning_tokens,
       sum(u.cache_read_tokens)::int8 AS cache_read_tokens, sum(u.cache_write_tokens)::int8 AS cache_write_tokens,
       sum(u.cost_usd) AS cost_usd
FROM agentpool.task_usage u JOIN agentpool.tasks t ON t.id = u.task_id JOIN agentpool.sessions s ON s.id = t.session_id
JOIN agentpool.projects p ON p.id = s.project_id
WHERE u.created_at >= $2 AND u.created_at < $3 AND ($4::uuid IS NULL OR s.workspace_id = $4)
GROUP BY 1 ORDER BY 1 DESC LIMIT $5
