//! The queue as its users see it: order, one at a time, waits, cancels, closed sessions, keys and hints.

use crate::support::queue::{DEADLINE, Node, Queue, completed, ended, plain, requeued};
use agentpool::dispatch::pg_source::PgSource;
use agentpool::dispatch::task_source::{FinishOutcome, TaskSource, Wake};
use agentpool::domain::failure::FailureReason;
use agentpool::domain::ids::{NodeId, SessionId};
use agentpool::domain::task::{ClaimedTask, TaskStatus};
use agentpool::store::Store;
use agentpool::store::listener::{Hint, listener};
use agentpool::store::sessions::{Closed, DEFAULT_WORKSPACE};
use agentpool::store::tasks::{Enqueued, IdempotencyKey, NewTask};
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

fn prompts(claimed: &[ClaimedTask]) -> Vec<&str> {
    claimed.iter().map(|task| task.prompt.as_str()).collect()
}

fn prio(session: Uuid, prompt: &str, priority: i16) -> NewTask {
    NewTask { priority: Some(priority), ..plain(session, prompt) }
}

fn for_agent(session: Uuid, prompt: &str, name: &str) -> NewTask {
    NewTask { agent: name.into(), ..plain(session, prompt) }
}

// ---- order -----------------------------------------------------------------------------------------------------------

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

// ---- who may claim ---------------------------------------------------------------------------------------------------

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

// ---- ends ------------------------------------------------------------------------------------------------------------

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
async fn a_head_that_waits_blocks_its_lane_and_comes_back_as_the_head() {
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

// ---- cancels ---------------------------------------------------------------------------------------------------------

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
async fn of_a_cancel_and_a_claim_one_wins_by_the_row() {
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

// ---- closed sessions -------------------------------------------------------------------------------------------------

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

// ---- idempotency keys ------------------------------------------------------------------------------------------------

fn key(key: &str, hash: &str) -> IdempotencyKey {
    IdempotencyKey { workspace: DEFAULT_WORKSPACE, key: key.into(), request_hash: hash.into() }
}

#[tokio::test]
async fn a_key_stands_for_one_request() {
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
async fn a_key_sent_many_times_at_once_makes_one_task() {
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

// ---- hints -----------------------------------------------------------------------------------------------------------

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
async fn ten_thousand_hints_for_one_task_are_one_claim() {
    let queue = Queue::new().await;
    let (session, node) = (queue.session().await, queue.node().await);
    let stop = CancellationToken::new();
    let (listener, listen) = listener(node.store.clone(), node.lock_key, stop.clone());
    let mut hints = listener.hints.subscribe();
    let listen = tokio::spawn(listen);
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

// ---- all at once -----------------------------------------------------------------------------------------------------

const LANES: usize = 100;
const ENQUEUERS: usize = 2;
const CLAIMERS: usize = 8;
const TASKS: usize = 5_000;

/// What all claimers together have seen.
#[derive(Default)]
struct Ledger {
    running: HashSet<SessionId>,
    last: HashMap<(SessionId, usize), usize>,
    done: usize,
}

impl Ledger {
    fn claimed(&mut self, task: &ClaimedTask) {
        assert!(self.running.insert(task.lease.session), "two turns at once in {}", task.lease.session);
        assert_eq!(task.attempt, 1, "claimed twice: {}", task.lease.task);
        let (who, number) = task.prompt.split_once(' ').unwrap();
        let (who, number): (usize, usize) = (who.parse().unwrap(), number.parse().unwrap());
        let last = self.last.insert((task.lease.session, who), number);
        assert!(last.is_none_or(|last| last < number), "{last:?} ran before {number}");
    }

    fn ending(&mut self, task: &ClaimedTask) {
        self.running.remove(&task.lease.session);
        self.done += 1;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn eight_claimers_and_two_enqueuers_lose_reorder_and_overlap_nothing() {
    let queue = Arc::new(Queue::new().await);
    let mut sessions = Vec::new();
    for _ in 0..LANES {
        sessions.push(queue.session().await);
    }
    let begun = Instant::now();
    let ledger = Arc::new(Mutex::new(Ledger::default()));
    let mut work = tokio::task::JoinSet::new();
    for who in 0..ENQUEUERS {
        let (queue, sessions) = (queue.clone(), sessions.clone());
        work.spawn(async move {
            for number in 0..TASKS / ENQUEUERS {
                let session = sessions[(number * 7 + who * 3) % LANES];
                queue.put(&plain(session, &format!("{who} {number}"))).await;
            }
        });
    }
    for _ in 0..CLAIMERS {
        let (node, ledger) = (queue.node().await, ledger.clone());
        work.spawn(async move { claim_until_all_is_done(&node, &ledger, begun).await });
    }
    // Without this each lane would soon belong to one claimer and nobody would compete for it.
    let (wanderer, all) = (queue.psql().await, ledger.clone());
    work.spawn(async move {
        let wander = "UPDATE agentpool.lanes SET home_node = '00000000-0000-0000-0000-000000000000' WHERE session_id IN
                      (SELECT session_id FROM agentpool.lanes WHERE state <> 2 ORDER BY session_id FOR UPDATE SKIP LOCKED)";
        while all.lock().unwrap().done < TASKS {
            wanderer.batch_execute(wander).await.unwrap();
            assert!(begun.elapsed() < DEADLINE * 3);
        }
    });
    while let Some(worker) = work.join_next().await {
        worker.unwrap();
    }
    let secs = begun.elapsed().as_secs_f64();
    println!("{TASKS} tasks, {LANES} lanes, {CLAIMERS} claimers: {:.0} per s", TASKS as f64 / secs);
    let (finished, disorder): (i64, i64) = (
        queue.one("SELECT count(*) FROM agentpool.tasks WHERE status = 'completed' AND attempt = 1").await,
        queue
            .one(
                "SELECT count(*) FROM (SELECT lane_position, dispatched_at, finished_at,
                     lag(lane_position) OVER lane AS before, lag(finished_at) OVER lane AS free_at
                 FROM agentpool.tasks WINDOW lane AS (PARTITION BY session_id ORDER BY dispatched_at)) t
                 WHERE before + 1 <> lane_position OR dispatched_at < free_at",
            )
            .await,
    );
    assert_eq!((finished, disorder), (TASKS as i64, 0));
    queue.assert_lanes_are_sound().await;
}

async fn claim_until_all_is_done(node: &Node, ledger: &Mutex<Ledger>, begun: Instant) {
    let mut ends = Vec::new();
    loop {
        node.admit().await;
        let tick = node.tick(&ends, 8, &["a"]).await;
        assert!(tick.finished.iter().all(|end| *end == FinishOutcome::Done), "{:?}", tick.finished);
        let mut ledger = ledger.lock().unwrap();
        tick.claimed.iter().for_each(|task| ledger.claimed(task));
        // From here on another node may have the lane: what follows is the tick that commits the end.
        tick.claimed.iter().for_each(|task| ledger.ending(task));
        ends = tick.claimed.iter().map(completed).collect();
        if ends.is_empty() && ledger.done == TASKS {
            return;
        }
        assert!(begun.elapsed() < DEADLINE * 3, "only {} of {TASKS} ran", ledger.done);
    }
}

#[tokio::test]
async fn a_store_that_is_closed_answers_unavailable() {
    let queue = Queue::new().await;
    let store = Store::new(queue.db.config.clone(), queue.db.config.clone());
    let node = NodeId(Uuid::new_v4());
    store.register_node(node.0, Uuid::new_v4(), "host").await.unwrap();
    store.close();
    assert!(store.admit().await.unwrap_err().is_transient());
}
