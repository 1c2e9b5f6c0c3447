//! What a tick has committed is never lost to an error of what it reads afterwards.

use crate::support::queue::{Queue, completed, plain, requeued};
use agentpool::dispatch::task_source::FinishOutcome;
use agentpool::domain::failure::FailureReason;
use std::time::Duration;

#[tokio::test]
async fn leases_of_a_committed_tick_survive_an_outlook_that_fails() {
    let queue = Queue::new().await;
    let (session, node) = (queue.session().await, queue.node().await);
    queue.put(&plain(session, "x")).await;
    node.admit().await;
    // The claim does not read this column, the outlook does.
    queue.sql.batch_execute("ALTER TABLE agentpool.tasks RENAME COLUMN run_at TO hidden").await.unwrap();
    let tick = node.tick(&[], 1, &["a"]).await;
    assert_eq!((tick.claimed.len(), tick.more, tick.due_in), (1, true, None));
    queue.sql.batch_execute("ALTER TABLE agentpool.tasks RENAME COLUMN hidden TO run_at").await.unwrap();
    node.complete(&tick.claimed[0]).await;
}

#[tokio::test]
async fn a_finish_that_cannot_be_told_from_a_lost_lease_is_asked_again() {
    let queue = Queue::new().await;
    let (session, node) = (queue.session().await, queue.node().await);
    queue.put(&plain(session, "x")).await;
    let first = node.take_one().await;
    let back = requeued(&first, Duration::ZERO, FailureReason::Drained, false);
    assert_eq!(node.finish(std::slice::from_ref(&back)).await, [FinishOutcome::Done]);
    // A finish alone does not read this column, the question about an earlier one does.
    queue.sql.batch_execute("ALTER TABLE agentpool.tasks RENAME COLUMN fence TO hidden").await.unwrap();
    assert_eq!(node.finish(std::slice::from_ref(&back)).await, [FinishOutcome::Again]);
    queue.sql.batch_execute("ALTER TABLE agentpool.tasks RENAME COLUMN hidden TO fence").await.unwrap();
    assert_eq!(node.finish(std::slice::from_ref(&back)).await, [FinishOutcome::Done]);
    node.take_one().await;
    assert_eq!(node.finish(&[completed(&first)]).await, [FinishOutcome::LostLease]);
}
