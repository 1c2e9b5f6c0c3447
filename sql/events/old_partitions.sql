-- Purpose: weeks of the event log whose every day is past its time and whose every task has ended, and what an interrupted removal
-- left: detached tables, and partitions on their way out. Parameters: $1 int4 days. Zero rows: none.
SELECT c.relname, i.inhrelid IS NOT NULL AS attached, coalesce(i.inhdetachpending, false) AS pending
FROM pg_class c LEFT JOIN pg_inherits i ON i.inhrelid = c.oid
CROSS JOIN LATERAL (SELECT to_date(substr(c.relname, 15), 'YYYYMMDD')::timestamp AT TIME ZONE 'UTC' AS first_day) w
WHERE c.relnamespace = 'agentpool'::regnamespace AND c.relname ~ '^task_messages_[0-9]{8}$' AND c.relkind = 'r'
  AND w.first_day + interval '7 days' <= clock_timestamp() - make_interval(days => $1)
  AND NOT EXISTS (SELECT FROM agentpool.tasks t WHERE t.finished_at IS NULL
                  AND t.id >= agentpool.uuid_floor(w.first_day) AND t.id < agentpool.uuid_floor(w.first_day + interval '7 days'))
ORDER BY c.relname
