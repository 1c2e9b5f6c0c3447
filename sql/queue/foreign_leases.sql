-- Purpose: the leases of other incarnations, for the rescuer to watch. Parameters: $1 uuid own incarnation.
-- Zero rows: nobody else holds a lane.
SELECT session_id, fence, lease_node, lease_incarnation, lease_until FROM agentpool.lanes
WHERE state = 2 AND lease_incarnation <> $1
