//! Appends: contiguous, fenced, in the order of their commits.

use super::{contents, running, stream};
use crate::support::queue::{Node, Queue, batch, completed, requeued};
use agentpool::dispatch::task_source::{AppendOutcome, TaskSource};
use agentpool::domain::failure::FailureReason;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

#[tokio::test]
async fn numbers_follow_each_other_or_are_refused() {
    let queue = Queue::new().await;
    let node = queue.node().await;
    let task = running(&queue, &node).await;
    assert_eq!(node.say(task.lease, 0, &["1", "2"]).await, AppendOutcome::Done);
    assert_eq!(node.say(task.lease, 3, &["4"]).await, AppendOutcome::Gap { expected: 3 });
    assert_eq!(node.say(task.lease, 2, &["3"]).await, AppendOutcome::Done);
    let rows = stream(&queue, task.lease.session.0).await;
    assert_eq!(contents(&rows), ["1", "2", "3"]);
    assert_eq!(rows.iter().map(|row| (row.seq, row.pos)).collect::<Vec<_>>(), [(1, 1), (2, 2), (3, 3)]);
}

#[tokio::test]
async fn a_batch_whose_answer_was_lost_is_stored_once() {
    let queue = Queue::new().await;
    let node = queue.node().await;
    let task = running(&queue, &node).await;
    for _ in 0..3 {
        assert_eq!(node.say(task.lease, 0, &["1", "2"]).await, AppendOutcome::Done);
    }
    assert_eq!(
        node.say(task.lease, 1, &["2", "3"]).await,
        AppendOutcome::Gap { expected: 3 },
        "half known is a defect of the writer"
    );
    assert_eq!(contents(&stream(&queue, task.lease.session.0).await), ["1", "2"]);
    assert_eq!(queue.store.stream_end(task.lease.session.0).await.unwrap(), 2, "the cursor moved once");
}

#[tokio::test]
async fn each_batch_of_a_call_has_its_own_outcome() {
    let queue = Queue::new().await;
    let node = queue.node().await;
    let (good, gap, lost) =
        (running(&queue, &node).await, running(&queue, &node).await, running(&queue, &node).await);
    node.complete(&lost).await;
    let outcomes = node
        .source
        .append(&[
            batch(good.lease, 1, &["a", "b"]),
            batch(gap.lease, 9, &["c"]),
            batch(lost.lease, 1, &["d"]),
        ])
        .await
        .unwrap();
    use AppendOutcome::{Done, Gap, LostLease};
    assert_eq!(outcomes, [Done, Gap { expected: 1 }, LostLease]);
    assert_eq!(contents(&stream(&queue, good.lease.session.0).await), ["a", "b"]);
    assert_eq!(queue.one::<i64>("SELECT count(*) FROM agentpool.task_messages").await, 2);
}

#[tokio::test]
async fn a_zombies_batch_beside_its_successors_is_refused_alone() {
    let queue = Queue::new().await;
    let node = queue.node().await;
    let zombie = running(&queue, &node).await;
    node.finish(&[requeued(&zombie, Duration::ZERO, FailureReason::NodeLost, false)]).await;
    let owner = node.take_one().await;
    for order in [[&zombie, &owner], [&owner, &zombie]] {
        let first = queue.store.stream_end(owner.lease.session.0).await.unwrap() + 1;
        let call = order.map(|task| batch(task.lease, first, &[&format!("of {}", task.attempt)]));
        let outcomes = node.source.append(&call).await.unwrap();
        for (task, outcome) in order.iter().zip(outcomes) {
            let mine = task.attempt == owner.attempt;
            assert_eq!(outcome, if mine { AppendOutcome::Done } else { AppendOutcome::LostLease });
        }
    }
    assert_eq!(contents(&stream(&queue, owner.lease.session.0).await), ["of 2", "of 2"]);
}

#[tokio::test]
async fn numbers_of_a_task_go_on_in_its_next_attempt_and_positions_in_its_session() {
    let queue = Queue::new().await;
    let (session, node) = (queue.session().await, queue.node().await);
    queue.put_all(session, &["x", "y"]).await;
    let first = node.take_one().await;
    node.say(first.lease, 0, &["1", "2"]).await;
    node.finish(&[requeued(&first, Duration::ZERO, FailureReason::NodeLost, false)]).await;
    let second = node.take_one().await;
    assert_eq!(second.last_seq, 2);
    assert_eq!(node.say(second.lease, 2, &["3"]).await, AppendOutcome::Done);
    node.complete(&second).await;
    let other = node.take_one().await;
    assert_eq!(other.last_seq, 0);
    assert_eq!(node.say(other.lease, 0, &["4"]).await, AppendOutcome::Done);
    let rows = stream(&queue, session).await;
    let numbers: Vec<_> = rows.iter().map(|row| (row.pos, row.seq)).collect();
    assert_eq!(numbers, [(1, 1), (2, 2), (3, 3), (4, 1)]);
    let of_task = queue.store.task_events(first.lease.task.0, session, 1, 10).await.unwrap();
    assert_eq!(of_task.iter().map(|row| row.pos).collect::<Vec<_>>(), [2, 3]);
}

#[tokio::test]
async fn an_append_renews_the_lease() {
    let queue = Queue::new().await;
    let node = queue.node().await;
    let task = running(&queue, &node).await;
    let session = task.lease.session.0;
    let before = queue.lane(session, "lease_until").await;
    node.say(task.lease, 0, &["1"]).await;
    let later = format!(
        "SELECT lease_until > '{before}'::timestamptz AND lease_until BETWEEN clock_timestamp() + interval '5 s'
             AND clock_timestamp() + interval '15 s' FROM agentpool.lanes WHERE session_id = '{session}'"
    );
    assert!(queue.one::<bool>(&later).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn overlapping_batches_in_opposite_order_never_deadlock() {
    let queue = Queue::new().await;
    let (one, two) = (queue.node().await, queue.node().await);
    let mut leases = Vec::new();
    for _ in 0..12 {
        leases.push(running(&queue, &one).await.lease);
    }
    let turned: Vec<_> = leases.iter().rev().copied().collect();
    let append = async |node: &Node, leases: &[agentpool::domain::task::Lease]| {
        for round in 1..=100 {
            // Both write the same numbers, as after a lost answer: whoever comes second finds them there.
            let call: Vec<_> = leases.iter().map(|lease| batch(*lease, round, &["x"])).collect();
            let outcomes = node.source.append(&call).await.unwrap();
            let ahead = |outcome: &AppendOutcome| match outcome {
                AppendOutcome::Done => true,
                AppendOutcome::Gap { expected } => *expected > round,
                AppendOutcome::LostLease => false,
            };
            assert!(outcomes.iter().all(ahead), "{outcomes:?} in round {round}");
            node.source.renew(leases).await.unwrap();
        }
    };
    tokio::join!(append(&one, &leases), append(&two, &turned));
    for lease in &leases {
        assert_eq!(stream(&queue, lease.session.0).await.len(), 100);
    }
    drop((one, two));
    queue.assert_no_deadlocks().await;
}

/// A reader that remembers its position must never find a smaller or a missing one later.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn positions_appear_without_gaps_in_the_order_of_their_commits() {
    let queue = Arc::new(Queue::new().await);
    let mut sessions = Vec::new();
    for _ in 0..3 {
        let session = queue.session().await;
        queue.put_all(session, &["1", "2", "3", "4", "5", "6"]).await;
        sessions.push(session);
    }
    let stop = Arc::new(AtomicBool::new(false));
    let mut readers = tokio::task::JoinSet::new();
    for session in sessions.clone() {
        let (queue, stop) = (queue.clone(), stop.clone());
        readers.spawn(async move {
            let mut cursor = 0;
            loop {
                let last_round = stop.load(Ordering::Acquire);
                for row in queue.store.session_events(session, cursor, 7).await.unwrap() {
                    assert_eq!(row.pos, cursor + 1, "a position was missing when a later one was there");
                    cursor = row.pos;
                }
                if last_round && queue.store.stream_end(session).await.unwrap() == cursor {
                    return cursor;
                }
            }
        });
    }
    let mut writers = tokio::task::JoinSet::new();
    for _ in 0..3 {
        let node = queue.node().await;
        writers.spawn(async move {
            loop {
                let claimed = node.take(2).await;
                for round in 0..10 {
                    let call: Vec<_> =
                        claimed.iter().map(|task| batch(task.lease, round * 2 + 1, &["a", "b"])).collect();
                    node.source.append(&call).await.unwrap();
                }
                let ends: Vec<_> = claimed.iter().map(completed).collect();
                let tick = node.tick(&ends, 0, &["a"]).await;
                if claimed.is_empty() && !tick.more {
                    return;
                }
            }
        });
    }
    while let Some(writer) = writers.join_next().await {
        writer.unwrap();
    }
    // A claimer may see nothing more while another still runs; what is left is drained by one.
    let node = queue.node().await;
    queue
        .sql
        .batch_execute("UPDATE agentpool.lanes SET home_node = '00000000-0000-0000-0000-000000000000'")
        .await
        .unwrap();
    while let Some(task) = node.take(1).await.first() {
        let texts = ["x"; 20];
        node.say(task.lease, 0, &texts).await;
        node.complete(task).await;
    }
    stop.store(true, Ordering::Release);
    let mut ends = Vec::new();
    while let Some(reader) = readers.join_next().await {
        ends.push(reader.unwrap());
    }
    assert_eq!(ends, [120; 3]);
}
