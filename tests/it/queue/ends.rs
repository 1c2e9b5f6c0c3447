//! How a turn leaves its lease, and what its lane does then.

use crate::support::queue::{Queue, completed, ended, plain, requeued};
use agentpool::dispatch::task_source::FinishOutcome;
use agentpool::domain::failure::FailureReason;
use agentpool::domain::task::TaskStatus;
use std::time::Duration;

#[tokio::test]
async fn an_end_is_written_with_its_reason() {
    let queue = Queue::new().await;
    let node = queue.node().await;
    for _ in 0..3 {
        queue.put(&plain(queue.session().await, "x")).await;
    }
    let tasks = node.take(3).await;
    let mut failed = ended(&tasks[1], TaskStatus::Failed);
    failed.failure = Some((FailureReason::BadRequest, "no\0pe".into()));
    failed.charged = true;
    let finishes = [completed(&tasks[0]), failed, ended(&tasks[2], TaskStatus::Cancelled)];
    assert_eq!(node.finish(&finishes).await, [FinishOutcome::Done; 3]);
    let row = async |n: usize| queue.store.task(tasks[n].lease.task.0).await.unwrap().unwrap();
    let (first, second, third) = (row(0).await, row(1).await, row(2).await);
    assert_eq!((first.status.as_str(), first.failures, first.error), ("completed", 0, None));
    assert_eq!((second.status.as_str(), second.failures), ("failed", 1));
    assert_eq!(second.failure_reason.as_deref(), Some("bad_request"));
    assert_eq!(second.error.as_deref(), Some("no\u{FFFD}pe"));
    assert_eq!((third.status.as_str(), third.failure_reason), ("cancelled", None));
    assert!(first.finished_at.is_some() && second.finished_at.is_some() && third.finished_at.is_some());
    queue.assert_lanes_are_sound().await;
}

#[tokio::test]
async fn a_finish_whose_answer_was_lost_is_done_and_one_of_an_old_fence_is_not() {
    let queue = Queue::new().await;
    let (session, node) = (queue.session().await, queue.node().await);
    queue.put(&plain(session, "x")).await;
    let first = node.take_one().await;
    let back = requeued(&first, Duration::ZERO, FailureReason::Drained, false);
    assert_eq!(node.finish(std::slice::from_ref(&back)).await, [FinishOutcome::Done]);
    assert_eq!(node.finish(std::slice::from_ref(&back)).await, [FinishOutcome::Done], "the same again");
    let second = node.take_one().await;
    assert_eq!((second.attempt, second.previous_fence), (2, Some(first.lease.fence)));
    assert_eq!(node.finish(&[completed(&first)]).await, [FinishOutcome::LostLease]);
    assert_eq!(queue.status(first.lease.task.0).await, "dispatched");
    // Both in one batch: each gets its own answer.
    let both = [completed(&first), completed(&second)];
    assert_eq!(node.finish(&both).await, [FinishOutcome::LostLease, FinishOutcome::Done]);
    assert_eq!(node.finish(&[completed(&second)]).await, [FinishOutcome::Done]);
}

#[tokio::test]
async fn a_zombies_finish_in_the_same_batch_leaves_the_conversation_alone() {
    use agentpool::domain::session::AgentSessionStatus as S;
    let queue = Queue::new().await;
    let (session, node) = (queue.session().await, queue.node().await);
    queue.put(&plain(session, "x")).await;
    queue
        .sql
        .execute(
            "INSERT INTO agentpool.agent_sessions (session_id, agent, backend, agent_session_id) VALUES ($1, 'a', 'scripted', 'c')",
            &[&session],
        )
        .await
        .unwrap();
    let first = node.take_one().await;
    node.finish(&[requeued(&first, Duration::ZERO, FailureReason::Drained, false)]).await;
    let second = node.take_one().await;
    let mut zombie = completed(&first);
    let poison = Some(FailureReason::ContextOverflow);
    zombie.conversation = Some((first.agent.clone(), S::Crashed, poison));
    let mut owner = completed(&second);
    owner.conversation = Some((second.agent.clone(), S::Idle, None));
    node.finish(&[owner, zombie]).await;
    let row = queue.store.conversations(session).await.unwrap().remove(0);
    assert_eq!((row.status.as_str(), row.poisoned_reason), ("idle", None));
}

#[tokio::test]
async fn f92_a_head_that_waits_blocks_its_lane_and_comes_back_as_the_head() {
    let queue = Queue::new().await;
    let (session, node) = (queue.session().await, queue.node().await);
    let ids = queue.put_all(session, &["1", "2"]).await;
    let task = node.take_one().await;
    let wait = Duration::from_secs(300);
    assert_eq!(
        node.finish(&[requeued(&task, wait, FailureReason::ProviderError, true)]).await,
        [FinishOutcome::Done]
    );
    assert_eq!(queue.lane(session, "state").await, "3");
    let tick = node.tick(&[], 9, &["a"]).await;
    assert!(tick.claimed.is_empty() && !tick.more, "a waiting lane is not ready");
    let due_in = tick.due_in.unwrap();
    assert!(due_in > Duration::from_secs(290) && due_in <= wait, "{due_in:?}");
    assert!(node.take(9).await.is_empty(), "an admission does not wake it early");
    let over = format!(
        "UPDATE agentpool.tasks SET run_at = clock_timestamp() WHERE id = '{}';
         UPDATE agentpool.lanes SET wake_at = clock_timestamp()",
        ids[0]
    );
    queue.sql.batch_execute(&over).await.unwrap();
    let again = node.take_one().await;
    assert_eq!((again.prompt.as_str(), again.attempt, again.failures), ("1", 2, 1));
    node.complete(&again).await;
    assert_eq!(node.drain().await, ["2"]);
}

#[tokio::test]
async fn a_turn_given_back_at_once_runs_again_before_the_next() {
    let queue = Queue::new().await;
    let (session, node) = (queue.session().await, queue.node().await);
    queue.put_all(session, &["1", "2"]).await;
    let task = node.take_one().await;
    node.finish(&[requeued(&task, Duration::ZERO, FailureReason::Drained, false)]).await;
    let again = node.take_one().await;
    assert_eq!((again.prompt.as_str(), again.attempt, again.failures), ("1", 2, 0));
}
