-- Purpose: the last position of a session's stream. Parameters: $1 uuid session. Zero rows: nothing was ever admitted.
SELECT last_pos FROM agentpool.session_streams WHERE session_id = $1
