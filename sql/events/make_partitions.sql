-- Purpose: partitions of the event log from last week to two weeks ahead, and from the oldest unfinished task on: one that
-- waited while no node ran must find its own. Its id may be a day older than its row. Parameters: none.
-- Always one row: how many.
SELECT agentpool.make_partitions(least(
    clock_timestamp() - interval '7 days',
    (SELECT min(created_at) FROM agentpool.tasks WHERE status = 'queued') - interval '1 day',
    (SELECT min(t.created_at) FROM agentpool.lanes l JOIN agentpool.tasks t ON t.id = l.head_task WHERE l.state = 2)
        - interval '1 day'))
