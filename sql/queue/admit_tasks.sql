-- Purpose: gives due tasks their place in their lanes, in order of `enqueued`. The lanes are locked. A task that somebody
-- has locked holds back the later ones of its session: SKIP LOCKED alone would reorder the lane. What was put into a closed
-- session since the statement before this one is left for the next round to end.
-- Parameters: $1 uuid[] locked sessions, $2 int8 how many. Zero rows: none admitted.
WITH candidates AS MATERIALIZED (
    (SELECT id, session_id, enqueued FROM agentpool.tasks
     WHERE lane_position IS NULL AND status = 'queued' AND run_at IS NULL ORDER BY enqueued LIMIT $2)
    UNION ALL
    (SELECT id, session_id, enqueued FROM agentpool.tasks
     WHERE lane_position IS NULL AND status = 'queued' AND run_at IS NOT NULL AND run_at <= clock_timestamp()
     ORDER BY run_at LIMIT $2)
), mine AS MATERIALIZED (
    SELECT c.* FROM candidates c JOIN agentpool.sessions s ON s.id = c.session_id
    WHERE c.session_id = ANY ($1::uuid[]) AND s.status = 'open'
), locked AS MATERIALIZED (
    SELECT t.id FROM agentpool.tasks t
    WHERE t.id IN (SELECT id FROM mine) AND t.lane_position IS NULL AND t.status = 'queued' FOR UPDATE SKIP LOCKED
), held_back AS (
    SELECT session_id, min(enqueued) AS enqueued FROM mine
    WHERE id NOT IN (SELECT id FROM locked) GROUP BY session_id
), admitted AS (
    SELECT m.id, m.session_id, row_number() OVER (PARTITION BY m.session_id ORDER BY m.enqueued) AS n
    FROM mine m JOIN locked k ON k.id = m.id LEFT JOIN held_back h ON h.session_id = m.session_id
    WHERE h.enqueued IS NULL OR m.enqueued < h.enqueued
), placed AS (
    UPDATE agentpool.tasks t SET lane_position = l.admitted + a.n
    FROM admitted a JOIN agentpool.lanes l ON l.session_id = a.session_id
    WHERE t.id = a.id RETURNING t.session_id
), counted AS (
    SELECT session_id, count(*) AS n FROM placed GROUP BY session_id
)
UPDATE agentpool.lanes l SET admitted = l.admitted + c.n FROM counted c WHERE l.session_id = c.session_id
RETURNING l.session_id, c.n
