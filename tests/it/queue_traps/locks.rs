//! Traps 1 and 4: what a client has locked, and who waits for it.

use super::{begin, open_cancel, result};
use crate::support::queue::{Queue, completed, plain, requeued};
use agentpool::dispatch::rescuer::LeaseWatch;
use agentpool::dispatch::task_source::{AppendOutcome, FinishOutcome, SourceError, TaskSource};
use agentpool::domain::failure::FailureReason;
use agentpool::store::StoreError;
use std::sync::Arc;
use std::time::Duration;

// A statement that waits for a lock fails after five seconds and is repeated a few times: while the open transaction of these
// tests lasts, whoever waits for it ends with an error, so a plain unwrap proves that nobody did.

#[tokio::test]
async fn trap_1_an_open_psql_insert_does_not_delay_renewals() {
    let queue = Queue::new().await;
    let (session, node) = (queue.session().await, queue.node().await);
    queue.put_all(session, &["runs", "next"]).await;
    let task = node.take_one().await;
    let psql = queue.psql().await;
    let open = format!(
        "SET ROLE agentpool_client; BEGIN;
         INSERT INTO agentpool.tasks (session_id, agent, prompt) VALUES ('{session}', 'a', 'open')"
    );
    psql.batch_execute(&open).await.unwrap();
    assert_eq!(node.source.renew(&[task.lease]).await.unwrap().len(), 1);
    node.source.begin_turn(&begin(&task)).await.unwrap();
    assert_eq!(node.say(task.lease, 0, &["hi"]).await, AppendOutcome::Done);
    node.source.store_result(&result(&task)).await.unwrap();
    node.complete(&task).await;
    assert_eq!(node.drain().await, ["next"]);
    psql.batch_execute("COMMIT").await.unwrap();
    assert_eq!(node.drain().await, ["open"]);
}

#[tokio::test]
async fn trap_1_an_open_psql_cancel_of_a_running_task_holds_up_nothing_else() {
    let queue = Queue::new().await;
    let node = queue.node().await;
    let sessions = [queue.session().await, queue.session().await, queue.session().await];
    for session in sessions {
        queue.put_all(session, &["runs", "next"]).await;
    }
    let tasks = node.take(3).await;
    let leases: Vec<_> = tasks.iter().map(|task| task.lease).collect();
    let psql = open_cancel(&queue, &[leases[0].task.0]).await;
    assert_eq!(node.source.renew(&leases).await.unwrap().len(), 3);
    for task in &tasks {
        node.source.begin_turn(&begin(task)).await.unwrap();
        assert_eq!(node.say(task.lease, 0, &["hi"]).await, AppendOutcome::Done);
    }
    // The result of the locked task cannot be stored yet; that is said at once, and the lane is free for renewals meanwhile.
    let stored = node.source.store_result(&result(&tasks[0])).await;
    assert!(matches!(stored, Err(SourceError::Unavailable(_))), "{stored:?}");
    let ends: Vec<_> = tasks.iter().map(completed).collect();
    use FinishOutcome::{Again, Done};
    assert_eq!(node.finish(&ends).await, [Again, Done, Done]);
    assert_eq!(node.take(9).await.len(), 2, "the other lanes go on");
    assert_eq!(node.source.renew(&leases[..1]).await.unwrap().len(), 1, "the lease stays");
    psql.batch_execute("COMMIT").await.unwrap();
    node.source.store_result(&result(&tasks[0])).await.unwrap();
    assert_eq!(node.finish(&ends[..1]).await, [Done]);
}

#[tokio::test]
async fn trap_1_an_open_psql_cancel_of_queued_tasks_holds_up_only_their_lane() {
    let queue = Queue::new().await;
    let (held, free, node) = (queue.session().await, queue.session().await, queue.node().await);
    let ids = queue.put_all(held, &["1", "2", "3"]).await;
    queue.put(&plain(free, "free")).await;
    let psql = open_cancel(&queue, &ids[1..2]).await;
    let mut ran = node.drain().await;
    ran.sort();
    assert_eq!(ran, ["1", "free"], "the third may not overtake the second");
    let closed = queue.store.close_session(held).await;
    assert!(matches!(closed, Err(StoreError::Busy(_))), "{closed:?}");
    psql.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(node.drain().await, ["2", "3"]);
    queue.assert_lanes_are_sound().await;
}

#[tokio::test]
async fn trap_1_a_rescue_does_not_wait_for_an_open_psql() {
    let queue = Queue::new().await;
    let (dead, node) = (queue.node().await, queue.node().await);
    for _ in 0..2 {
        queue.put(&plain(queue.session().await, "x")).await;
    }
    let tasks = dead.take(2).await;
    let psql = open_cancel(&queue, &[tasks[0].lease.task.0]).await;
    let (foreign, _) = node.source.look().await.unwrap();
    assert_eq!(foreign.len(), 2);
    assert_eq!(node.source.rescue(&foreign, false).await.unwrap(), 1);
    assert_eq!(queue.status(tasks[0].lease.task.0).await, "dispatched");
    assert_eq!(queue.status(tasks[1].lease.task.0).await, "queued");
    psql.batch_execute("COMMIT").await.unwrap();
    assert_eq!(node.source.rescue(&foreign, false).await.unwrap(), 1);
    assert_eq!(queue.status(tasks[0].lease.task.0).await, "cancelled");
}

#[tokio::test]
async fn trap_4_a_cancel_never_closes_a_circle_of_waits() {
    let queue = Queue::new().await;
    let node = queue.node().await;
    for _ in 0..2 {
        queue.put(&plain(queue.session().await, "x")).await;
    }
    let tasks = node.take(2).await;
    let psql = open_cancel(&queue, &[tasks[0].lease.task.0]).await;
    let ends: Vec<_> = tasks.iter().map(completed).collect();
    assert_eq!(node.finish(&ends).await, [FinishOutcome::Again, FinishOutcome::Done]);
    let other = format!(
        "UPDATE agentpool.tasks SET cancel_requested_at = now() WHERE id = '{}'; COMMIT",
        tasks[1].lease.task
    );
    psql.batch_execute(&other).await.unwrap();
    assert_eq!(node.finish(&ends[..1]).await, [FinishOutcome::Done]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn trap_4_cancels_claims_and_finishes_never_deadlock() {
    let queue = Arc::new(Queue::new().await);
    let nodes = [queue.node().await, queue.node().await, queue.node().await];
    let mut ids = Vec::new();
    for _ in 0..12 {
        let session = queue.session().await;
        ids.extend(queue.put_all(session, &["1", "2", "3", "4", "5", "6"]).await);
    }
    let mut cancels = tokio::task::JoinSet::new();
    for descending in [false, true] {
        let (psql, mut ids) = (queue.psql().await, ids.clone());
        if descending {
            ids.reverse();
        }
        cancels.spawn(async move {
            for pair in ids.chunks(3) {
                let ask = "UPDATE agentpool.tasks SET cancel_requested_at = clock_timestamp() WHERE id = $1";
                psql.batch_execute("BEGIN").await.unwrap();
                psql.execute(ask, &[&pair[0]]).await.unwrap();
                psql.batch_execute("COMMIT").await.unwrap();
            }
        });
    }
    let run = async |node: &crate::support::queue::Node| {
        let mut ends = Vec::new();
        loop {
            node.admit().await;
            let tick = node.tick(&ends, 4, &["a"]).await;
            let again = ends.iter().zip(&tick.finished).filter(|(_, end)| **end == FinishOutcome::Again);
            let mut next: Vec<_> = again.map(|(end, _)| end.clone()).collect();
            next.extend(tick.claimed.iter().map(|task| match task.attempt {
                1 => requeued(task, Duration::ZERO, FailureReason::Drained, false),
                _ => completed(task),
            }));
            let leases: Vec<_> = next.iter().map(|end| end.lease).collect();
            node.source.renew(&leases).await.unwrap();
            let open = "SELECT count(*) FROM agentpool.tasks WHERE finished_at IS NULL";
            if next.is_empty() && queue.one::<i64>(open).await == 0 {
                return;
            }
            ends = next;
        }
    };
    tokio::join!(run(&nodes[0]), run(&nodes[1]), run(&nodes[2]));
    while let Some(cancel) = cancels.join_next().await {
        cancel.unwrap();
    }
    drop(nodes);
    queue.assert_lanes_are_sound().await;
    queue.assert_no_deadlocks().await;
}
