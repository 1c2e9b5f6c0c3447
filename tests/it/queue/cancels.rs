//! A cancel ends a task wherever it stands.

use crate::support::queue::{Queue, completed, plain, requeued};
use agentpool::dispatch::task_source::{FinishOutcome, TaskSource};
use agentpool::domain::failure::FailureReason;
use agentpool::store::enqueue::NewTask;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

#[tokio::test]
async fn a_cancel_ends_a_queued_task_wherever_it_stands() {
    let queue = Queue::new().await;
    let (session, node) = (queue.session().await, queue.node().await);
    let ids = queue.put_all(session, &["head", "second", "third"]).await;
    node.admit().await;
    let fourth = queue.put(&plain(session, "unadmitted")).await;
    for id in [ids[0], ids[1], fourth] {
        assert!(queue.store.ask_cancel(id).await.unwrap());
        assert!(queue.store.ask_cancel(id).await.unwrap(), "asking twice is asking once");
    }
    assert_eq!(node.drain().await, ["third"]);
    for id in [ids[0], ids[1], fourth] {
        assert_eq!(queue.status(id).await, "cancelled");
        assert!(!queue.store.ask_cancel(id).await.unwrap(), "it has ended");
    }
    assert!(!queue.store.ask_cancel(Uuid::now_v7()).await.unwrap());
    queue.assert_lanes_are_sound().await;
}

#[tokio::test]
async fn a_cancel_of_a_waiting_head_frees_its_lane() {
    let queue = Queue::new().await;
    let (session, node) = (queue.session().await, queue.node().await);
    let ids = queue.put_all(session, &["waits", "next"]).await;
    let task = node.take_one().await;
    let wait = Duration::from_secs(300);
    node.finish(&[requeued(&task, wait, FailureReason::RateLimited, false)]).await;
    queue.store.ask_cancel(ids[0]).await.unwrap();
    assert_eq!(node.drain().await, ["next"]);
    assert_eq!(queue.status(ids[0]).await, "cancelled");
}

#[tokio::test]
async fn a_cancel_of_a_scheduled_task_does_not_wait_for_its_moment() {
    let queue = Queue::new().await;
    let (session, node) = (queue.session().await, queue.node().await);
    let run_at = Some(chrono::Utc::now() + chrono::Duration::days(9));
    let id = queue.put(&NewTask { run_at, ..plain(session, "later") }).await;
    queue.store.ask_cancel(id).await.unwrap();
    node.admit().await;
    assert_eq!(queue.status(id).await, "cancelled");
}

#[tokio::test]
async fn a_cancel_of_a_running_task_is_told_to_its_turn() {
    let queue = Queue::new().await;
    let (session, node) = (queue.session().await, queue.node().await);
    let id = queue.put(&plain(session, "x")).await;
    let task = node.take_one().await;
    let told = async || node.source.renew(&[task.lease]).await.unwrap()[0].cancel_requested;
    assert!(!told().await);
    assert!(node.source.cancels_asked(&[task.lease.task]).await.unwrap().is_empty());
    queue.store.ask_cancel(id).await.unwrap();
    assert!(told().await);
    assert_eq!(node.source.cancels_asked(&[task.lease.task]).await.unwrap(), [task.lease.task]);
    node.admit().await;
    assert_eq!(queue.status(id).await, "dispatched", "only its turn ends it");
    // The turn failed before it heard: it is not tried again.
    let back = requeued(&task, Duration::ZERO, FailureReason::AgentCrashed, true);
    assert_eq!(node.finish(&[back]).await, [FinishOutcome::Done]);
    assert_eq!(queue.status(id).await, "cancelled");
    queue.assert_lanes_are_sound().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn f93_of_a_cancel_and_a_claim_one_wins_by_the_row() {
    let queue = Arc::new(Queue::new().await);
    let (one, two) = (queue.node().await, queue.node().await);
    for _ in 0..40 {
        let mut ids = Vec::new();
        for _ in 0..5 {
            ids.push(queue.put(&plain(queue.session().await, "x")).await);
        }
        one.admit().await;
        let cancels = {
            let (store, ids) = (queue.store.clone(), ids.clone());
            tokio::spawn(async move {
                for id in ids {
                    store.ask_cancel(id).await.unwrap();
                }
            })
        };
        let (_, first, second) = tokio::join!(one.admit(), one.claim(9, &["a"]), two.claim(9, &["a"]));
        cancels.await.unwrap();
        for (node, claimed) in [(&one, &first), (&two, &second)] {
            let ends: Vec<_> = claimed.iter().map(completed).collect();
            assert!(node.finish(&ends).await.iter().all(|end| *end == FinishOutcome::Done));
        }
        one.admit().await;
        for id in ids {
            let ran = first.iter().chain(&second).any(|task| task.lease.task.0 == id);
            let status = queue.status(id).await;
            assert_eq!(status, if ran { "completed" } else { "cancelled" });
        }
    }
    queue.assert_lanes_are_sound().await;
}
