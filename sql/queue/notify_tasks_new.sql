-- Purpose: wakes every dispatcher. Parameters: none. Returns one row.
SELECT pg_notify('tasks_new', '')
