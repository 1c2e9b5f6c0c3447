-- Purpose: does a turn of this session run now? The lane is locked. Parameters: $1 uuid. Zero rows: there is no lane.
SELECT state = 2 AS leased FROM agentpool.lanes WHERE session_id = $1
