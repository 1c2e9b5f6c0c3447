//! A closed session takes no more work.

use crate::support::queue::{Node, Queue, ended, plain};
use agentpool::domain::task::{ClaimedTask, TaskStatus};
use agentpool::store::sessions::Closed;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use uuid::Uuid;

#[tokio::test]
async fn a_closed_session_ends_what_is_queued_and_takes_no_more() {
    let queue = Queue::new().await;
    let (session, node) = (queue.session().await, queue.node().await);
    let before = queue.put_all(session, &["1", "2"]).await;
    let task = node.take_one().await;
    assert_eq!(queue.store.close_session(session).await.unwrap(), Closed::Busy);
    node.complete(&task).await;
    assert_eq!(queue.store.close_session(session).await.unwrap(), Closed::Done(Vec::new()));
    assert_eq!(queue.store.close_session(session).await.unwrap(), Closed::NotOpen);
    assert_eq!(queue.store.close_session(Uuid::now_v7()).await.unwrap(), Closed::NotOpen);
    let late = queue.put(&plain(session, "late")).await;
    assert!(node.take(9).await.is_empty());
    assert_eq!(queue.status(before[1]).await, "cancelled");
    assert_eq!(queue.status(late).await, "cancelled");
    let error = queue.store.task(late).await.unwrap().unwrap().error;
    assert_eq!(error.as_deref(), Some("the session is closed"));
    queue.assert_lanes_are_sound().await;
}

/// Every session is closed while tasks are put into it and a node admits, claims and finishes.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_task_starts_in_a_session_that_was_closed_before() {
    let queue = Arc::new(Queue::new().await);
    let nodes = [queue.node().await, queue.node().await];
    for _ in 0..25 {
        let mut sessions = Vec::new();
        for _ in 0..4 {
            let session = queue.session().await;
            queue.put_all(session, &["before", "before"]).await;
            sessions.push(session);
        }
        let done = AtomicUsize::new(0);
        let put = async {
            for _ in 0..4 {
                for session in &sessions {
                    queue.put(&plain(*session, "during")).await;
                }
            }
            done.fetch_add(1, Ordering::Relaxed);
        };
        let close = async {
            for session in &sessions {
                while queue.store.close_session(*session).await.unwrap() == Closed::Busy {
                    tokio::task::yield_now().await;
                }
            }
            done.fetch_add(1, Ordering::Relaxed);
        };
        let run = async |node: &Node| {
            while done.load(Ordering::Relaxed) < 2 {
                let claimed = node.take(4).await;
                let ends: Vec<_> = claimed.iter().map(end_as_an_executor_would).collect();
                node.finish(&ends).await;
            }
        };
        tokio::join!(put, close, run(&nodes[0]), run(&nodes[1]));
    }
    for node in &nodes {
        while !{
            let claimed = node.take(9).await;
            let ends: Vec<_> = claimed.iter().map(end_as_an_executor_would).collect();
            node.finish(&ends).await;
            claimed.is_empty()
        } {}
    }
    let (open, late, both): (i64, i64, i64) = (
        queue.one("SELECT count(*) FROM agentpool.tasks WHERE finished_at IS NULL").await,
        queue
            .one(
                "SELECT count(*) FROM agentpool.tasks t JOIN agentpool.sessions s ON s.id = t.session_id
                 WHERE t.status = 'completed' AND t.dispatched_at > s.closed_at",
            )
            .await,
        queue.one("SELECT count(DISTINCT status) FROM agentpool.tasks").await,
    );
    assert_eq!((open, late), (0, 0), "tasks without an end, tasks that ran in a closed session");
    assert_eq!(both, 2, "the race had both outcomes");
    queue.assert_lanes_are_sound().await;
}

fn end_as_an_executor_would(task: &ClaimedTask) -> agentpool::dispatch::task_source::Finish {
    ended(task, if task.cancel_requested { TaskStatus::Cancelled } else { TaskStatus::Completed })
}

#[tokio::test]
async fn a_task_that_is_asked_to_end_in_a_closed_session_ends_once_with_the_sessions_words() {
    let queue = Queue::new().await;
    let (closing, open, node) = (queue.session().await, queue.session().await, queue.node().await);
    let asked = queue.put_all(closing, &["admitted"]).await[0];
    let (kept, cancelled) =
        (queue.put(&plain(open, "kept")).await, queue.put(&plain(open, "cancelled")).await);
    node.admit().await;
    assert!(queue.store.ask_cancel(cancelled).await.unwrap());
    assert_eq!(queue.store.close_session(closing).await.unwrap(), Closed::Done(Vec::new()));
    let late = queue.put(&plain(closing, "never admitted")).await;
    node.admit().await;
    let row = async |id| queue.store.task(id).await.unwrap().unwrap();
    for id in [asked, late] {
        let row = row(id).await;
        let words = Some("the session is closed");
        assert_eq!((row.status.as_str(), row.error.as_deref()), ("cancelled", words));
    }
    assert_eq!((row(cancelled).await.status.as_str(), row(cancelled).await.error), ("cancelled", None));
    assert_eq!(row(kept).await.status, "queued");
    queue.assert_lanes_are_sound().await;
}
