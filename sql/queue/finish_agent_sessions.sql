-- Purpose: the state of the conversations whose turns ended. Rides in the tick of the finish. A turn that never got as far
-- as to make its conversation active does not make it idle either.
-- Parameters: $1 uuid[] sessions, $2 text[] agents, $3 text[] status, $4 text[] poisoned reason or null.
-- Zero rows: the turns ended before there was a conversation.
UPDATE agentpool.agent_sessions a
SET status = CASE WHEN a.status = 'closed' OR w.status = 'idle' AND a.status <> 'active' THEN a.status ELSE w.status END,
    poisoned_reason = coalesce(w.poisoned, a.poisoned_reason), last_active_at = clock_timestamp()
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[]) AS w (session_id, agent, status, poisoned)
WHERE a.session_id = w.session_id AND a.agent = w.agent
