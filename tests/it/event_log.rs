//! The event log on real rows: contiguous, fenced, ordered by commit, clean; and the writer that fills it.

mod append;
mod clean;
mod redaction;
mod retention;
mod tool_output;
mod writer;

use crate::support::queue::{Node, Queue, plain};
use agentpool::domain::task::ClaimedTask;
use agentpool::store::events::EventRow;
use uuid::Uuid;

async fn running(queue: &Queue, node: &Node) -> ClaimedTask {
    queue.put(&plain(queue.session().await, "x")).await;
    node.take_one().await
}

async fn stream(queue: &Queue, session: Uuid) -> Vec<EventRow> {
    queue.store.session_events(session, 0, 100_000).await.unwrap()
}

fn contents(rows: &[EventRow]) -> Vec<&str> {
    rows.iter().filter_map(|row| row.content.as_deref()).collect()
}
