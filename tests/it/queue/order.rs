//! Which task runs next.

use super::{prio, prompts};
use crate::support::queue::{Queue, plain};
use agentpool::store::enqueue::NewTask;
use std::time::Duration;

#[tokio::test]
async fn a_lane_is_first_in_first_out() {
    let queue = Queue::new().await;
    let (session, node) = (queue.session().await, queue.node().await);
    queue.put_all(session, &["1", "2", "3"]).await;
    node.admit().await;
    queue.put_all(session, &["4", "5"]).await;
    assert_eq!(node.drain().await, ["1", "2", "3", "4", "5"]);
    queue.assert_lanes_are_sound().await;
}

#[tokio::test]
async fn the_order_of_a_lane_is_the_order_of_admission() {
    let queue = Queue::new().await;
    let (session, node) = (queue.session().await, queue.node().await);
    let psql = queue.psql().await;
    let insert = format!(
        "BEGIN; INSERT INTO agentpool.tasks (session_id, agent, prompt) VALUES ('{session}', 'a', 'began first')"
    );
    psql.batch_execute(&insert).await.unwrap();
    queue.put(&plain(session, "committed first")).await;
    node.admit().await;
    psql.batch_execute("COMMIT").await.unwrap();
    assert_eq!(node.drain().await, ["committed first", "began first"]);
}

#[tokio::test]
async fn a_lane_runs_one_task_at_a_time() {
    let queue = Queue::new().await;
    let (session, one, two) = (queue.session().await, queue.node().await, queue.node().await);
    queue.put_all(session, &["1", "2"]).await;
    let first = one.take(8).await;
    assert_eq!(prompts(&first), ["1"]);
    assert!(one.take(8).await.is_empty());
    assert!(two.take(8).await.is_empty());
    one.complete(&first[0]).await;
    assert_eq!(prompts(&one.take(8).await), ["2"]);
    queue.assert_lanes_are_sound().await;
}

#[tokio::test]
async fn priority_orders_lanes_and_never_the_tasks_of_one() {
    let queue = Queue::new().await;
    let (low, high, node) = (queue.session().await, queue.session().await, queue.node().await);
    queue.put(&prio(low, "low", 0)).await;
    queue.put(&prio(high, "high 1", 1)).await;
    queue.put(&prio(high, "high 2", 90)).await;
    node.admit().await;
    // The urgent task behind the head lifts its lane, not itself.
    assert_eq!(node.drain().await, ["high 1", "high 2", "low"]);
}

#[tokio::test]
async fn a_finished_lane_goes_to_the_tail() {
    let queue = Queue::new().await;
    let (one, two, node) = (queue.session().await, queue.session().await, queue.node().await);
    queue.put_all(one, &["a1", "a2"]).await;
    node.admit().await;
    queue.put_all(two, &["b1", "b2"]).await;
    assert_eq!(node.drain().await, ["a1", "b1", "a2", "b2"]);
}

#[tokio::test]
async fn a_point_of_priority_is_worth_thirty_seconds_of_waiting() {
    for (waited_secs, winner) in [(330, "old"), (270, "urgent")] {
        let queue = Queue::new().await;
        let (old, urgent, node) = (queue.session().await, queue.session().await, queue.node().await);
        queue.put(&plain(old, "old")).await;
        node.admit().await;
        let aged =
            format!("UPDATE agentpool.lanes SET ready_at = ready_at - interval '{waited_secs} seconds'");
        queue.sql.batch_execute(&aged).await.unwrap();
        queue.put(&plain(old, "behind")).await;
        queue.put(&prio(urgent, "urgent", 10)).await;
        assert_eq!(node.take_one().await.prompt, winner, "after {waited_secs} s");
    }
}

#[tokio::test]
async fn a_task_waits_for_its_moment_and_holds_nobody_back() {
    let queue = Queue::new().await;
    let (session, node) = (queue.session().await, queue.node().await);
    let later =
        NewTask { run_at: Some(chrono::Utc::now() + chrono::Duration::hours(1)), ..plain(session, "later") };
    let id = queue.put(&later).await;
    queue.put(&plain(session, "now")).await;
    assert_eq!(node.drain().await, ["now"]);
    let due_in = node.tick(&[], 1, &["a"]).await.due_in.unwrap();
    assert!(due_in > Duration::from_secs(3500) && due_in <= Duration::from_secs(3600), "{due_in:?}");
    let moment = format!("UPDATE agentpool.tasks SET run_at = clock_timestamp() WHERE id = '{id}'");
    queue.sql.batch_execute(&moment).await.unwrap();
    assert_eq!(node.drain().await, ["later"]);
}
