//! Hints wake, rows decide.

use crate::support::queue::{DEADLINE, Queue, plain};
use agentpool::dispatch::pg_source::PgSource;
use agentpool::dispatch::rescuer::LeaseWatch;
use agentpool::dispatch::task_source::{TaskSource, Wake};
use agentpool::store::listener::{Hint, ListenerState, listener};
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

#[tokio::test]
async fn an_insert_wakes_the_engine_when_it_is_committed() {
    let queue = Queue::new().await;
    let (session, node) = (queue.session().await, queue.node().await);
    let stop = CancellationToken::new();
    let (listener, listen) = listener(node.store.clone(), node.lock_key, stop.clone());
    let (source, forward) = PgSource::new(node.store.clone(), node.id, node.incarnation, &listener);
    let mut wakes = source.wakes();
    let mut next = async || tokio::time::timeout(DEADLINE, wakes.recv()).await.unwrap().unwrap();
    let (listen, forward) = (tokio::spawn(listen), tokio::spawn(forward));
    assert_eq!(next().await, Wake::Everything, "whatever came before the connection may have been missed");
    let psql = queue.psql().await;
    let insert =
        format!("INSERT INTO agentpool.tasks (session_id, agent, prompt) VALUES ('{session}', 'a', 'x')");
    psql.batch_execute(&insert).await.unwrap();
    assert_eq!(next().await, Wake::Work, "plain SQL");
    let id = queue.put(&plain(session, "y")).await;
    assert_eq!(next().await, Wake::Work, "the store");
    queue.store.ask_cancel(id).await.unwrap();
    assert_eq!(next().await, Wake::Cancel);
    psql.batch_execute("UPDATE agentpool.permission_requests SET answer = '{}' WHERE false").await.unwrap();
    assert_eq!(next().await, Wake::Answer);
    stop.cancel();
    listen.await.unwrap();
    drop(listener);
    forward.await.unwrap();
}

#[tokio::test]
async fn f31_ten_thousand_hints_for_one_task_are_one_claim() {
    let queue = Queue::new().await;
    let (session, node) = (queue.session().await, queue.node().await);
    let stop = CancellationToken::new();
    let (listener, listen) = listener(node.store.clone(), node.lock_key, stop.clone());
    let mut hints = listener.hints.subscribe();
    let listen = tokio::spawn(listen);
    // What is told before LISTEN is lost, as it may be.
    let mut state = listener.state.clone();
    let listening = state.wait_for(|state| *state == ListenerState::Listening);
    tokio::time::timeout(DEADLINE, listening).await.unwrap().unwrap();
    queue.put(&plain(session, "x")).await;
    queue
        .sql
        .batch_execute("SELECT pg_notify('tasks_new', n::text) FROM generate_series(1, 10000) n")
        .await
        .unwrap();
    let mut claimed = 0;
    let mut heard = 0;
    while heard < 3 {
        match tokio::time::timeout(DEADLINE, hints.recv()).await.unwrap() {
            Ok(Hint::TasksNew) | Err(_) => {
                heard += 1;
                claimed += node.take(9).await.len();
            }
            Ok(_) => {}
        }
    }
    assert_eq!(claimed, 1);
    stop.cancel();
    listen.await.unwrap();
}

/// Everything that `channel` hears until a note of ours comes by.
async fn heard_until_now(queue: &Queue, heard: &mut broadcast::Receiver<Hint>) -> Vec<Hint> {
    let mark = Uuid::new_v4();
    queue.sql.batch_execute(&format!("NOTIFY session_events, '{mark}'")).await.unwrap();
    let mut hints = Vec::new();
    loop {
        match tokio::time::timeout(DEADLINE, heard.recv()).await.unwrap().unwrap() {
            Hint::SessionEvents(node) if node == mark => return hints,
            hint @ Hint::SessionEvents(_) => hints.push(hint),
            _ => {}
        }
    }
}

#[tokio::test]
async fn readers_everywhere_hear_of_tasks_that_an_admission_ended_or_a_rescue_took() {
    let queue = Queue::new().await;
    let (session, node, other) = (queue.session().await, queue.node().await, queue.node().await);
    let stop = CancellationToken::new();
    let (listener, listen) = listener(node.store.clone(), node.lock_key, stop.clone());
    let mut hints = listener.hints.subscribe();
    let listen = tokio::spawn(listen);
    assert_eq!(tokio::time::timeout(DEADLINE, hints.recv()).await.unwrap().unwrap(), Hint::Reconnected);
    let everybody = [Hint::SessionEvents(Uuid::nil())];
    let id = queue.put(&plain(session, "x")).await;
    node.admit().await;
    assert_eq!(heard_until_now(&queue, &mut hints).await, [], "an admission that ends nothing is silent");
    queue.store.ask_cancel(id).await.unwrap();
    node.admit().await;
    assert_eq!(heard_until_now(&queue, &mut hints).await, everybody);
    queue.put(&plain(session, "y")).await;
    other.take_one().await;
    heard_until_now(&queue, &mut hints).await;
    let (foreign, _) = node.source.look().await.unwrap();
    assert_eq!(node.source.rescue(&foreign, false).await.unwrap(), 1);
    assert_eq!(heard_until_now(&queue, &mut hints).await, everybody);
    stop.cancel();
    listen.await.unwrap();
}
