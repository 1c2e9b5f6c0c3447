//! Traps 5, 6 and 7: zombies, stale snapshots, expired lanes.

use super::{begin, interrupted, question, result};
use crate::support::queue::{Queue, agent, batch, completed, ended, plain, requeued};
use agentpool::dispatch::rescuer::LeaseWatch;
use agentpool::dispatch::task_source::{
    AppendOutcome, FinishOutcome, SourceError, TaskSource, WorktreeFacts,
};
use agentpool::domain::failure::FailureReason;
use agentpool::domain::task::TaskStatus;
use agentpool::store::enqueue::NewTask;
use std::time::Duration;

#[tokio::test]
async fn f90_trap_5_a_zombies_event_waits_for_the_fence_and_then_is_refused() {
    let queue = Queue::new().await;
    let (session, node) = (queue.session().await, queue.node().await);
    queue.put(&plain(session, "x")).await;
    let task = node.take_one().await;
    assert_eq!(node.say(task.lease, 0, &["one"]).await, AppendOutcome::Done);
    // Somebody takes the lane over, and has not committed yet.
    let thief = queue.psql().await;
    thief.batch_execute("BEGIN; UPDATE agentpool.lanes SET fence = fence + 1").await.unwrap();
    let source = node.source.clone();
    let zombie = tokio::spawn(async move { source.append(&[batch(task.lease, 2, &["zombie"])]).await });
    queue.until_blocked("appends events of several turns").await;
    thief.batch_execute("COMMIT").await.unwrap();
    assert_eq!(zombie.await.unwrap().unwrap(), [AppendOutcome::LostLease]);
    let mut owner = task.lease;
    owner.fence.0 += 1;
    assert_eq!(node.say(owner, 1, &["two"]).await, AppendOutcome::Done, "the true owner's number is free");
    let said: Vec<String> =
        queue.one("SELECT array_agg(content ORDER BY seq) FROM agentpool.task_messages").await;
    assert_eq!(said, ["one", "two"]);
}

/// Everything that a report could have changed.
fn place() -> WorktreeFacts {
    WorktreeFacts { path: "/srv/w".into(), base_commit: "c0de".into(), branch: "b".into() }
}

async fn fingerprint(queue: &Queue) -> String {
    queue
        .one(
            "SELECT concat_ws(' | ',
                (SELECT string_agg(t::text, ';' ORDER BY id) FROM agentpool.tasks t),
                (SELECT string_agg(l::text, ';' ORDER BY session_id) FROM agentpool.lanes l),
                (SELECT string_agg(s::text, ';' ORDER BY session_id) FROM agentpool.session_streams s),
                (SELECT string_agg(m::text, ';' ORDER BY pos) FROM agentpool.task_messages m),
                (SELECT string_agg(a::text, ';' ORDER BY agent) FROM agentpool.agent_sessions a),
                (SELECT string_agg(c::text, ';' ORDER BY id) FROM agentpool.checkpoints c),
                (SELECT string_agg(c::text, ';' ORDER BY id) FROM agentpool.pending_changes c),
                (SELECT string_agg(u::text, ';' ORDER BY task_id) FROM agentpool.task_usage u),
                (SELECT string_agg(w::text, ';' ORDER BY session_id) FROM agentpool.session_worktrees w),
                (SELECT string_agg(p::text, ';' ORDER BY id) FROM agentpool.permission_requests p))",
        )
        .await
}

#[tokio::test]
async fn f90_trap_5_nothing_that_a_zombie_reports_is_written() {
    let queue = Queue::new().await;
    let (session, node) = (queue.session().await, queue.node().await);
    queue.put_all(session, &["x", "y"]).await;
    let zombie = node.take_one().await;
    node.finish(&[requeued(&zombie, Duration::ZERO, FailureReason::NodeLost, false)]).await;
    let owner = node.take_one().await;
    node.source.begin_turn(&begin(&owner)).await.unwrap();
    node.say(owner.lease, 0, &["mine"]).await;
    let before = fingerprint(&queue).await;
    assert_eq!(node.say(zombie.lease, 0, &["zombie"]).await, AppendOutcome::LostLease);
    assert_eq!(node.say(zombie.lease, 1, &["zombie"]).await, AppendOutcome::LostLease);
    assert!(node.source.renew(&[zombie.lease]).await.unwrap().is_empty());
    let refusals = [
        node.source.begin_turn(&begin(&zombie)).await,
        node.source.store_result(&result(&zombie)).await,
        node.source.save_worktree(&zombie.lease, &place()).await,
        node.source.save_interrupted(&zombie.lease, &interrupted(&zombie, "dead")).await,
        node.source.ask_permission(&zombie.lease, &agent("a"), &question()).await,
    ];
    for refusal in refusals {
        assert!(matches!(refusal, Err(SourceError::LostLease)), "{refusal:?}");
    }
    for end in [TaskStatus::Completed, TaskStatus::Failed, TaskStatus::Cancelled] {
        assert_eq!(node.finish(&[ended(&zombie, end)]).await, [FinishOutcome::LostLease]);
    }
    assert_eq!(fingerprint(&queue).await, before);
    // The same reports from the owner all change it: the fingerprint sees each of them.
    let mut seen = vec![before];
    node.source.ask_permission(&owner.lease, &agent("a"), &question()).await.unwrap();
    seen.push(fingerprint(&queue).await);
    node.source.save_worktree(&owner.lease, &place()).await.unwrap();
    node.source.save_interrupted(&owner.lease, &interrupted(&owner, "c0de")).await.unwrap();
    seen.push(fingerprint(&queue).await);
    node.source.store_result(&result(&owner)).await.unwrap();
    seen.push(fingerprint(&queue).await);
    node.complete(&owner).await;
    seen.push(fingerprint(&queue).await);
    assert!(seen.windows(2).all(|two| two[0] != two[1]));
    assert_eq!(
        queue
            .store
            .permissions(
                &agentpool::store::permissions::PermissionFilter { all: true, ..Default::default() },
                9
            )
            .await
            .unwrap()[0]
            .status,
        "cancelled",
        "the finish closed it"
    );
}

#[tokio::test]
async fn trap_6_a_finish_sees_what_was_admitted_while_it_waited_for_the_lane() {
    let queue = Queue::new().await;
    let (session, node) = (queue.session().await, queue.node().await);
    queue.put(&plain(session, "runs")).await;
    let task = node.take_one().await;
    let next = queue.put(&NewTask { priority: Some(50), ..plain(session, "next") }).await;
    let admission = queue.psql().await;
    admission.batch_execute("BEGIN; SELECT FROM agentpool.lanes FOR UPDATE").await.unwrap();
    let (source, end) = (node.source.clone(), completed(&task));
    let finish = tokio::spawn(async move {
        let want = agentpool::dispatch::task_source::Want { hands: 0, agents: Vec::new() };
        source.tick(&[end], &want).await
    });
    queue.until_blocked("FOR UPDATE OF l").await;
    let admit = "UPDATE agentpool.tasks SET lane_position = 2 WHERE lane_position IS NULL;
                 UPDATE agentpool.lanes SET admitted = 2; COMMIT";
    admission.batch_execute(admit).await.unwrap();
    assert_eq!(finish.await.unwrap().unwrap().finished, [FinishOutcome::Done]);
    assert_eq!(queue.lane(session, "head_task").await, next.to_string());
    assert_eq!(
        (queue.lane(session, "state").await, queue.lane(session, "prio").await),
        ("1".into(), "50".into())
    );
    queue.assert_lanes_are_sound().await;
}

#[tokio::test]
async fn trap_7_an_expired_lane_whose_cancel_was_asked_ends_as_cancelled() {
    let queue = Queue::new().await;
    let (dead, node) = (queue.node().await, queue.node().await);
    // Only its home could run it again, but nobody needs to.
    let session = queue.local_session(dead.id).await;
    let ids = queue.put_all(session, &["x", "y"]).await;
    dead.take_one().await;
    queue.store.ask_cancel(ids[0]).await.unwrap();
    let (foreign, _) = node.source.look().await.unwrap();
    assert_eq!(node.source.rescue(&foreign, false).await.unwrap(), 1);
    let row = queue.store.task(ids[0]).await.unwrap().unwrap();
    assert_eq!((row.status.as_str(), row.failure_reason, row.error), ("cancelled", None, None));
    assert_eq!(queue.lane(session, "head_task").await, ids[1].to_string());
    queue.assert_lanes_are_sound().await;
}
