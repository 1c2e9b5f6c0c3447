//! A session with very many messages: its first page and its tail.

use crate::Effort;
use crate::figures::{Figure, Goal, Report, Samples};
use crate::support::node::TestNode;
use agentpool::wire::event::EventView;
use std::time::Instant;

/// Requests of each kind.
const ROUNDS: usize = 50;

pub async fn measure(effort: &Effort, report: &mut Report) {
    let node = TestNode::scripted().await;
    let session = node.session().await.id;
    let task = node.turn(session, "scripted", "SAY: begun").await.id;
    let sql = node.sql().await;
    let fill = "INSERT INTO agentpool.task_messages (task_id, seq, session_id, pos, type, content)
                SELECT $1, n + 100, $2, n + 100, 'text', 'word ' || n FROM generate_series(1, $3::int8) n";
    sql.execute(fill, &[&task, &session, &effort.rows]).await.unwrap();
    let cursor = "UPDATE agentpool.session_streams SET last_pos = $2 WHERE session_id = $1";
    sql.execute(cursor, &[&session, &(effort.rows + 100)]).await.unwrap();
    sql.batch_execute("ANALYZE agentpool.task_messages").await.unwrap();
    for (what, query) in [("first page", "limit=100"), ("tail", "tail=100")] {
        let mut took = Samples::default();
        for _ in 0..ROUNDS {
            let begun = Instant::now();
            let page: Vec<EventView> = node.get(&format!("/api/sessions/{session}/messages?{query}")).await;
            took.0.push(begun.elapsed().as_secs_f64() * 1e3);
            assert!(page.len() > 90);
        }
        let what = format!("a session of {} messages: {what}, median", effort.rows);
        report.figures.push(Figure::new(what, took.median(), "ms", Goal::AtMost(20.0)));
    }
    node.stop().await;
}
