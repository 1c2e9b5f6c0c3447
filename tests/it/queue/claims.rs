//! Which lanes a node may claim, and how many.

use super::{for_agent, prompts};
use crate::support::queue::{Queue, plain};

#[tokio::test]
async fn a_claim_takes_as_many_lanes_as_there_are_hands_the_fairest_first() {
    let queue = Queue::new().await;
    let node = queue.node().await;
    for number in 0..10 {
        queue.put(&plain(queue.session().await, &number.to_string())).await;
        node.admit().await;
    }
    let mut first = node.claim(4, &["a"]).await;
    first.sort_by_key(|task| task.prompt.clone());
    assert_eq!(prompts(&first), ["0", "1", "2", "3"]);
    let tick = node.tick(&[], 100, &["a"]).await;
    assert_eq!((tick.claimed.len(), tick.more), (6, false));
    assert!(first.iter().all(|task| task.attempt == 1 && task.lease.fence.0 == 1 && task.last_seq == 0));
}

#[tokio::test]
async fn more_says_that_hands_were_fewer_than_lanes() {
    let queue = Queue::new().await;
    let node = queue.node().await;
    for _ in 0..2 {
        queue.put(&plain(queue.session().await, "x")).await;
    }
    node.admit().await;
    assert!(node.tick(&[], 1, &["a"]).await.more);
    assert!(!node.tick(&[], 1, &["a"]).await.more);
    queue.put(&plain(queue.session().await, "unadmitted")).await;
    assert!(node.tick(&[], 1, &["a"]).await.more);
}

#[tokio::test]
async fn only_lanes_whose_head_can_run_here_are_claimed() {
    let queue = Queue::new().await;
    let (session, other, node) = (queue.session().await, queue.session().await, queue.node().await);
    queue.put(&for_agent(session, "b first", "b")).await;
    queue.put(&plain(session, "a behind it")).await;
    queue.put(&plain(other, "a")).await;
    node.admit().await;
    let tick = node.tick(&[], 9, &["a"]).await;
    assert_eq!(prompts(&tick.claimed), ["a"]);
    assert!(!tick.more, "a lane of a missing agent is no reason to try again");
    assert!(node.claim(9, &[]).await.is_empty());
    assert_eq!(prompts(&node.claim(9, &["b"]).await), ["b first"]);
}

#[tokio::test]
async fn a_lane_with_a_home_is_claimed_there_only() {
    let queue = Queue::new().await;
    let (here, there) = (queue.node().await, queue.node().await);
    let local = queue.local_session(here.id).await;
    let cloned = queue.session().await;
    queue.put(&plain(local, "local")).await;
    queue.put_all(cloned, &["cloned 1", "cloned 2"]).await;
    let claimed = there.take(9).await;
    assert_eq!(prompts(&claimed), ["cloned 1"], "a path belongs to its node, a URL to the first that comes");
    there.complete(&claimed[0]).await;
    assert_eq!(prompts(&here.take(9).await), ["local"], "the first claim gave the other lane a home");
    assert_eq!(prompts(&there.take(9).await), ["cloned 2"]);
}

#[tokio::test]
async fn a_paused_lane_is_left_alone() {
    let queue = Queue::new().await;
    let (session, node) = (queue.session().await, queue.node().await);
    queue.put(&plain(session, "x")).await;
    node.admit().await;
    queue.sql.batch_execute("UPDATE agentpool.lanes SET paused = true").await.unwrap();
    let tick = node.tick(&[], 1, &["a"]).await;
    assert!(tick.claimed.is_empty() && !tick.more);
    queue.sql.batch_execute("UPDATE agentpool.lanes SET paused = false").await.unwrap();
    node.take_one().await;
}

#[tokio::test]
async fn one_hand_passes_over_a_lane_that_somebody_has_locked() {
    let queue = Queue::new().await;
    let node = queue.node().await;
    let (fairest, next) = (queue.session().await, queue.session().await);
    queue.put(&plain(fairest, "fairest")).await;
    node.admit().await;
    queue.put(&plain(next, "next")).await;
    node.admit().await;
    let other = queue.psql().await;
    let lock = format!("BEGIN; SELECT FROM agentpool.lanes WHERE session_id = '{fairest}' FOR UPDATE");
    other.batch_execute(&lock).await.unwrap();
    assert_eq!(prompts(&node.claim(1, &["a"]).await), ["next"]);
    other.batch_execute("COMMIT").await.unwrap();
    assert_eq!(prompts(&node.claim(1, &["a"]).await), ["fairest"]);
}

#[tokio::test]
async fn one_hand_claims_in_the_next_round_what_stands_behind_a_locked_head() {
    let queue = Queue::new().await;
    let node = queue.node().await;
    let fairest = queue.put(&plain(queue.session().await, "fairest")).await;
    node.admit().await;
    queue.put(&plain(queue.session().await, "next")).await;
    node.admit().await;
    let psql = queue.psql().await;
    let lock = format!("BEGIN; SELECT FROM agentpool.tasks WHERE id = '{fairest}' FOR UPDATE");
    psql.batch_execute(&lock).await.unwrap();
    let tick = node.tick(&[], 1, &["a"]).await;
    assert!(tick.claimed.is_empty() && tick.more, "{tick:?}");
    assert_eq!(prompts(&node.claim(1, &["a"]).await), ["next"]);
}

#[tokio::test]
async fn a_claim_locks_no_more_lanes_than_it_has_hands() {
    let queue = Queue::new().await;
    let node = queue.node().await;
    for _ in 0..40 {
        queue.put(&plain(queue.session().await, "x")).await;
    }
    node.admit().await;
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/sql/queue/claim.sql");
    let claim = queue.sql.prepare(&std::fs::read_to_string(file).unwrap()).await.unwrap();
    queue.sql.batch_execute("BEGIN").await.unwrap();
    let agents = vec!["a"];
    let claimed =
        queue.sql.query(&claim, &[&node.id.0, &node.incarnation.0, &3_i64, &agents, &15.0_f64]).await;
    assert_eq!(claimed.unwrap().len(), 3);
    let free = "WITH free AS (SELECT FROM agentpool.lanes FOR UPDATE SKIP LOCKED) SELECT count(*) FROM free";
    let free: i64 = queue.psql().await.query_one(free, &[]).await.unwrap().get(0);
    assert_eq!(free, 37);
    queue.sql.batch_execute("ROLLBACK").await.unwrap();
}
