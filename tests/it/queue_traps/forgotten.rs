//! Traps 2 and 3: lost wake-ups, and lanes that stop the queue.

use super::open_cancel;
use crate::support::queue::{Queue, completed, plain};
use agentpool::store::enqueue::NewTask;
use futures::StreamExt;
use tokio_postgres::{AsyncMessage, NoTls};

#[tokio::test]
async fn trap_2_a_lane_that_a_claim_passed_over_is_not_forgotten() {
    let queue = Queue::new().await;
    let (session, node) = (queue.session().await, queue.node().await);
    queue.put(&plain(session, "x")).await;
    node.admit().await;
    let other = queue.psql().await;
    other.batch_execute("BEGIN; SELECT FROM agentpool.lanes FOR UPDATE").await.unwrap();
    let tick = node.tick(&[], 1, &["a"]).await;
    assert!(tick.claimed.is_empty() && tick.more, "an empty claim says that there is something");
    other.batch_execute("COMMIT").await.unwrap();
    assert_eq!(node.tick(&[], 1, &["a"]).await.claimed.len(), 1);
}

#[tokio::test]
async fn trap_2_a_task_whose_admission_another_node_had_in_hand_is_not_forgotten() {
    let queue = Queue::new().await;
    let (session, node) = (queue.session().await, queue.node().await);
    let other = queue.psql().await;
    other.batch_execute("BEGIN; SELECT pg_advisory_xact_lock(1095782476, 1)").await.unwrap();
    queue.put(&plain(session, "x")).await;
    node.admit().await;
    let tick = node.tick(&[], 1, &["a"]).await;
    assert!(tick.claimed.is_empty() && tick.more);
    other.batch_execute("COMMIT").await.unwrap();
    node.take_one().await;
}

#[tokio::test]
async fn trap_2_a_finish_whose_next_head_wants_another_nodes_agent_wakes_that_node() {
    let queue = Queue::new().await;
    let (session, node) = (queue.session().await, queue.node().await);
    for (prompt, name) in [("1", "a"), ("2", "a"), ("3", "b")] {
        queue.put(&NewTask { agent: name.into(), ..plain(session, prompt) }).await;
    }
    node.admit().await;
    let (client, mut connection) = queue.db.config.connect(NoTls).await.unwrap();
    let (tell, mut heard) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut messages = futures::stream::poll_fn(move |cx| connection.poll_message(cx));
        while let Some(Ok(message)) = messages.next().await {
            if let AsyncMessage::Notification(note) = message {
                let _ = tell.send(note.payload().to_owned());
            }
        }
    });
    client.batch_execute("LISTEN tasks_new").await.unwrap();
    let first = node.claim(1, &["a"]).await.remove(0);
    let tick = node.tick(&[completed(&first)], 1, &["a"]).await;
    queue.sql.batch_execute("NOTIFY tasks_new, 'a is next'").await.unwrap();
    node.tick(&[completed(&tick.claimed[0])], 1, &["a"]).await;
    queue.sql.batch_execute("NOTIFY tasks_new, 'b is next'").await.unwrap();
    let mut notes = Vec::new();
    while notes.last().is_none_or(|note| note != "b is next") {
        notes.push(heard.recv().await.unwrap());
    }
    assert_eq!(notes, ["a is next", "", "b is next"], "one hint, by the finish that left a lane to others");
}

#[tokio::test]
async fn trap_3_phantom_lanes_are_demoted_by_the_claim_that_meets_them() {
    let queue = Queue::new().await;
    let node = queue.node().await;
    for _ in 0..16 {
        queue.put(&plain(queue.session().await, "phantom")).await;
    }
    node.admit().await;
    let drift =
        "UPDATE agentpool.tasks SET status = 'cancelled', finished_at = now(); DELETE FROM agentpool.tasks";
    queue.sql.batch_execute(drift).await.unwrap();
    queue.put(&plain(queue.session().await, "real")).await;
    node.admit().await;
    let mut claimed = Vec::new();
    for _ in 0..5 {
        claimed.extend(node.claim(4, &["a"]).await);
    }
    assert_eq!(claimed.len(), 1, "sixteen phantoms, four a claim, and then the real one");
    assert_eq!(queue.one::<i64>("SELECT count(*) FROM agentpool.lanes WHERE state = 1").await, 0);
    queue.assert_lanes_are_sound().await;
}

#[tokio::test]
async fn trap_3_lanes_with_locked_heads_step_aside() {
    let queue = Queue::new().await;
    let node = queue.node().await;
    let mut locked = Vec::new();
    for _ in 0..4 {
        locked.push(queue.put(&plain(queue.session().await, "locked")).await);
    }
    node.admit().await;
    let psql = open_cancel(&queue, &locked).await;
    queue.put(&plain(queue.session().await, "free")).await;
    node.admit().await;
    let mut claimed = Vec::new();
    for _ in 0..3 {
        claimed.extend(node.claim(2, &["a"]).await);
    }
    assert_eq!(claimed.len(), 1, "two steps aside for the four, and then the free one");
    psql.batch_execute("ROLLBACK").await.unwrap();
    queue.until("SELECT bool_and(wake_at <= clock_timestamp()) FROM agentpool.lanes WHERE state = 3").await;
    assert_eq!(node.take(9).await.len(), 4, "they come back by themselves");
}
