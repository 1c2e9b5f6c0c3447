-- Purpose: partitions of the event log from last week to two weeks ahead. Parameters: none. Always one row: how many.
SELECT agentpool.make_partitions(clock_timestamp() - interval '7 days')
