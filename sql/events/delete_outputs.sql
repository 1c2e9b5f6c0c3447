-- Purpose: takes out whole tool outputs of a week of the event log that is about to go, some at a time: a week's may be more than one
-- statement can delete in its time. Parameters: $1 text the name of the week's table. Zero rows: none are left.
DELETE FROM agentpool.tool_outputs o
USING (SELECT t.task_id, t.seq FROM agentpool.tool_outputs t
       CROSS JOIN LATERAL (SELECT to_date(substr($1, 15), 'YYYYMMDD')::timestamp AT TIME ZONE 'UTC' AS first_day) w
       WHERE t.task_id >= agentpool.uuid_floor(w.first_day) AND t.task_id < agentpool.uuid_floor(w.first_day + interval '7 days')
       LIMIT 200) old
WHERE o.task_id = old.task_id AND o.seq = old.seq
