//! Connections that are there and carry nothing: of the pools, and of the listener.

use crate::support::cluster::connection_string;
use crate::support::node::{TestNode, scripted_config};
use crate::support::pg_way::PgWay;
use crate::support::queue::{DEADLINE, Queue};
use agentpool::dispatch::pg_source::PgSource;
use agentpool::dispatch::task_source::{TaskSource, Wake};
use agentpool::domain::task::TaskStatus;
use agentpool::store::listener::{Hint, Listener, ListenerState, listener};
use agentpool::store::{Store, StoreError};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// All at once: they wait, and hardly work.
#[tokio::test(flavor = "multi_thread")]
async fn f28_f29_f30_a_connection_that_falls_silent_is_noticed_and_costs_nothing() {
    tokio::join!(
        f28_a_statement_whose_answer_never_comes_fails_and_its_connection_is_not_used_again(),
        f28_a_connection_that_died_while_it_rested_costs_no_statement(),
        f28_f29_a_node_whose_connections_all_fall_silent_keeps_its_turn_and_works_on(),
        f29_a_listener_whose_way_is_a_black_hole_notices_and_comes_back_when_it_is_none(),
        f29_a_listener_whose_backend_is_stopped_is_replaced_and_hears_again(),
        f30_what_was_notified_while_nobody_could_hear_is_found_after_the_reconnect(),
    );
}

async fn f28_a_statement_whose_answer_never_comes_fails_and_its_connection_is_not_used_again() {
    let queue = Queue::new().await;
    let way = PgWay::to(&queue.db.config).await;
    let store = Store::new(way.config.clone(), way.config.clone());
    store.write_probe().await.unwrap();
    let psql = queue.psql().await;
    psql.batch_execute("BEGIN; UPDATE agentpool.write_probe SET at = now()").await.unwrap();
    let probing = store.clone();
    let probe = tokio::spawn(async move { probing.write_probe().await });
    queue.until_blocked("write_probe").await;
    way.lose_what_is_connected();
    let failed = tokio::time::timeout(DEADLINE, probe).await.expect("it does not hang").unwrap();
    assert!(matches!(&failed, Err(StoreError::Unavailable(_))), "{failed:?}");
    psql.batch_execute("ROLLBACK").await.unwrap();
    store.write_probe().await.unwrap();
}

async fn f28_a_connection_that_died_while_it_rested_costs_no_statement() {
    let queue = Queue::new().await;
    let way = PgWay::to(&queue.db.config).await;
    let store = Store::new(way.config.clone(), way.config.clone());
    // Two at once make two connections.
    let (one, two) = tokio::join!(store.write_probe(), store.write_probe());
    one.and(two).unwrap();
    way.lose_what_is_connected();
    // The rest of a connection that nobody needs.
    tokio::time::sleep(Duration::from_secs(6)).await;
    let made = way.made();
    store.write_probe().await.unwrap();
    assert!(way.made() > made);
}

async fn f28_f29_a_node_whose_connections_all_fall_silent_keeps_its_turn_and_works_on() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = scripted_config(&folder).await;
    let database = config.database_url.clone().unwrap().parse().unwrap();
    let way = PgWay::to(&database).await;
    config.database_url = Some(connection_string(&way.config));
    let node = TestNode::start(config, vec![folder]).await;
    let session = node.session().await.id;
    let task = node.submit(session, "scripted", "SLOW:300").await;
    node.follow(task.id, |event| event.kind == "text").await;
    way.lose_what_is_connected();
    // The same test's eyes look through the same way, by connections made from now on.
    node.sql()
        .await
        .execute(
            "INSERT INTO agentpool.tasks (session_id, agent, prompt) VALUES ($1, 'scripted', 'SAY: next')",
            &[&session],
        )
        .await
        .unwrap();
    let sql = node.sql().await;
    let done = "SELECT count(*) = 2 FROM agentpool.tasks WHERE status = 'completed' AND attempt = 1";
    let waiting = async {
        while !sql.query_one(done, &[]).await.unwrap().get::<_, bool>(0) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    // A statement that was on its way is given up after 35 s.
    tokio::time::timeout(DEADLINE * 2, waiting).await.expect("the node works on");
    node.stop().await;
}

/// Waits until the listener says so; gives it back in words.
async fn until_state(listener: &Listener, is: impl Fn(&ListenerState) -> bool) -> String {
    let mut state = listener.state.clone();
    let state = tokio::time::timeout(DEADLINE, state.wait_for(|state| is(state))).await.unwrap().unwrap();
    format!("{state:?}")
}

fn is_listening(state: &ListenerState) -> bool {
    *state == ListenerState::Listening
}

async fn f29_a_listener_whose_way_is_a_black_hole_notices_and_comes_back_when_it_is_none() {
    let queue = Queue::new().await;
    let way = PgWay::to(&queue.db.config).await;
    let store = Store::new(way.config.clone(), way.config.clone());
    let stop = CancellationToken::new();
    let (listener, run) = listener(store, 1, stop.clone());
    let run = tokio::spawn(run);
    until_state(&listener, is_listening).await;
    way.lose();
    until_state(&listener, |state| matches!(state, ListenerState::Down(_))).await;
    // The next connection is accepted, and then nothing is said.
    let deaf =
        |state: &ListenerState| matches!(state, ListenerState::Down(why) if why.contains("says nothing"));
    until_state(&listener, deaf).await;
    way.heal();
    until_state(&listener, is_listening).await;
    stop.cancel();
    run.await.unwrap();
}

/// Goes on when it is dropped, also by a failed assertion.
struct Stopped(Pid);

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = kill(self.0, Signal::SIGCONT);
    }
}

async fn f29_a_listener_whose_backend_is_stopped_is_replaced_and_hears_again() {
    let queue = Queue::new().await;
    let node = queue.node().await;
    let stop = CancellationToken::new();
    let (listener, run) = listener(node.store.clone(), node.lock_key, stop.clone());
    let mut hints = listener.hints.subscribe();
    let run = tokio::spawn(run);
    let mut locked = listener.locked.clone();
    tokio::time::timeout(DEADLINE, locked.wait_for(|locked| *locked)).await.unwrap().unwrap();
    let pid: i32 = queue
        .one(
            "SELECT l.pid FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
             WHERE locktype = 'advisory' AND classid = 1095782477 AND datname = current_database()",
        )
        .await;
    let stopped = Stopped(Pid::from_raw(pid));
    kill(stopped.0, Signal::SIGSTOP).unwrap();
    until_state(&listener, |state| matches!(state, ListenerState::Down(_))).await;
    until_state(&listener, is_listening).await;
    queue.store.ask_cancel(Uuid::nil()).await.unwrap();
    let mut heard = async || tokio::time::timeout(DEADLINE, hints.recv()).await.unwrap().unwrap();
    while heard().await != Hint::TasksCancel {}
    // The stopped backend holds the lock, so nobody takes this node for dead; then it is taken again.
    drop(stopped);
    tokio::time::timeout(DEADLINE, locked.wait_for(|locked| *locked)).await.unwrap().unwrap();
    stop.cancel();
    run.await.unwrap();
}

async fn f30_what_was_notified_while_nobody_could_hear_is_found_after_the_reconnect() {
    let queue = Queue::new().await;
    let (way, node) = (PgWay::to(&queue.db.config).await, queue.node().await);
    let store = Store::new(way.config.clone(), way.config.clone());
    let stop = CancellationToken::new();
    let (listener, run) = listener(store.clone(), node.lock_key, stop.clone());
    let (source, forward) = PgSource::new(store, node.id, node.incarnation, &listener);
    let mut wakes = source.wakes();
    let (run, forward) = (tokio::spawn(run), tokio::spawn(forward));
    let mut next = async || tokio::time::timeout(DEADLINE, wakes.recv()).await.unwrap().unwrap();
    assert_eq!(next().await, Wake::Everything);
    way.lose();
    for _ in 0..10 {
        let session = queue.session().await;
        queue.put_all(session, &["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]).await;
    }
    way.heal();
    assert_eq!(next().await, Wake::Everything, "the hundred hints are lost, and it knows that it was deaf");
    assert_eq!(node.drain().await.len(), 100);
    let status = TaskStatus::Completed.as_str();
    assert_eq!(
        queue.one::<i64>(&format!("SELECT count(*) FROM agentpool.tasks WHERE status = '{status}'")).await,
        100
    );
    stop.cancel();
    run.await.unwrap();
    drop(listener);
    forward.await.unwrap();
}
