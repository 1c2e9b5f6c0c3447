//! A key stands for one request.

use super::for_agent;
use crate::support::queue::{Queue, plain};
use agentpool::store::enqueue::{Enqueued, IdempotencyKey};
use agentpool::store::sessions::DEFAULT_WORKSPACE;
use std::collections::HashSet;

fn key(key: &str, hash: &str) -> IdempotencyKey {
    IdempotencyKey { workspace: DEFAULT_WORKSPACE, key: key.into(), request_hash: hash.into() }
}

#[tokio::test]
async fn f94_a_key_stands_for_one_request() {
    let queue = Queue::new().await;
    let task = plain(queue.session().await, "x");
    let Enqueued::New(id) = queue.store.enqueue(&task, Some(&key("k", "h"))).await.unwrap() else { panic!() };
    assert_eq!(queue.store.enqueue(&task, Some(&key("k", "h"))).await.unwrap(), Enqueued::Before(id));
    assert_eq!(queue.store.enqueue(&task, Some(&key("k", "other"))).await.unwrap(), Enqueued::KeyConflict);
    assert!(matches!(queue.store.enqueue(&task, Some(&key("l", "h"))).await.unwrap(), Enqueued::New(_)));
    assert_eq!(queue.one::<i64>("SELECT count(*) FROM agentpool.tasks").await, 2);
    let week = "UPDATE agentpool.idempotency_keys SET created_at = created_at - interval '7 days 1 second' WHERE key = 'k'";
    queue.sql.batch_execute(week).await.unwrap();
    let again = queue.store.enqueue(&task, Some(&key("k", "other"))).await.unwrap();
    assert!(matches!(again, Enqueued::New(new) if new != id), "{again:?}");
}

#[tokio::test]
async fn a_refused_request_does_not_use_up_its_key() {
    let queue = Queue::new().await;
    let session = queue.session().await;
    queue.store.enqueue(&for_agent(session, "x", "nobody"), Some(&key("k", "h"))).await.unwrap_err();
    let again = queue.store.enqueue(&plain(session, "x"), Some(&key("k", "h2"))).await.unwrap();
    assert!(matches!(again, Enqueued::New(_)), "{again:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn f94_a_key_sent_many_times_at_once_makes_one_task() {
    let queue = Queue::new().await;
    let session = queue.session().await;
    for round in 0..5 {
        let calls: Vec<_> = (0..32)
            .map(|_| {
                let (store, key) = (queue.store.clone(), key(&format!("k{round}"), "h"));
                tokio::spawn(async move { store.enqueue(&plain(session, "x"), Some(&key)).await })
            })
            .collect();
        let mut new = 0;
        let mut ids = HashSet::new();
        for call in calls {
            match call.await.unwrap().unwrap() {
                Enqueued::New(id) => {
                    new += 1;
                    ids.insert(id);
                }
                Enqueued::Before(id) => {
                    ids.insert(id);
                }
                Enqueued::KeyConflict => panic!("the same request"),
            }
        }
        assert_eq!((new, ids.len()), (1, 1));
    }
    assert_eq!(queue.one::<i64>("SELECT count(*) FROM agentpool.tasks").await, 5);
}

#[tokio::test]
async fn keys_are_forgotten_when_they_no_longer_bind_and_not_before() {
    let queue = Queue::new().await;
    let task = plain(queue.session().await, "x");
    for name in ["old", "new"] {
        queue.store.enqueue(&task, Some(&key(name, "h"))).await.unwrap();
        assert!(queue.store.enqueued_before(&key(name, "h")).await.unwrap().is_some());
    }
    assert_eq!(queue.store.enqueued_before(&key("new", "other")).await.unwrap(), Some(Enqueued::KeyConflict));
    assert_eq!(queue.store.forget_old_keys().await.unwrap(), 0);
    let age = "UPDATE agentpool.idempotency_keys
               SET created_at = created_at - CASE key WHEN 'old' THEN interval '7 days 1 second' ELSE interval '6 days' END";
    queue.sql.batch_execute(age).await.unwrap();
    assert_eq!(queue.store.enqueued_before(&key("old", "h")).await.unwrap(), None);
    assert_eq!(queue.store.forget_old_keys().await.unwrap(), 1);
    assert!(queue.store.enqueued_before(&key("new", "h")).await.unwrap().is_some());
}

#[tokio::test]
async fn the_depth_counts_what_waits_and_what_runs() {
    let queue = Queue::new().await;
    let (session, node) = (queue.session().await, queue.node().await);
    queue.put_all(session, &["1", "2", "3"]).await;
    queue.put(&plain(queue.session().await, "beside")).await;
    assert_eq!(queue.depth().await, (4, 0));
    let tasks = node.take(9).await;
    assert_eq!(queue.depth().await, (2, 2));
    node.complete(&tasks[0]).await;
    assert_eq!(queue.depth().await, (2, 1));
}
