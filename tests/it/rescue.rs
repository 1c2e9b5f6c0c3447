//! What becomes of leases whose owner is gone: by real nodes, real locks, real lost connections.

use crate::support::queue::{DEADLINE, Node, Queue, agent, completed, plain};
use agentpool::dispatch::pg_source::PgSource;
use agentpool::dispatch::rescuer::{self, Foreign, LeaseWatch, NodeSeen};
use agentpool::dispatch::task_source::{PermissionAsk, SourceError, TaskSource, TurnBegin, WorktreeFacts};
use agentpool::domain::agent::BackendKind;
use agentpool::domain::ids::{Incarnation, NodeId};
use agentpool::domain::permission::{Access, PermissionKind, PermissionRequest};
use agentpool::domain::task::{ClaimedTask, Lease};
use async_trait::async_trait;
use std::sync::Arc;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use uuid::Uuid;

/// A lease watch that counts its looks, so that a test can wait for the rescuer to have looked.
struct Counted {
    source: Arc<PgSource>,
    looks: watch::Sender<u32>,
}

#[async_trait]
impl LeaseWatch for Counted {
    fn me(&self) -> (NodeId, Incarnation) {
        self.source.me()
    }
    async fn look(&self) -> Result<(Vec<Foreign>, Vec<NodeSeen>), SourceError> {
        let seen = self.source.look().await;
        if seen.is_ok() {
            self.looks.send_modify(|looks| *looks += 1);
        }
        seen
    }
    async fn own(&self) -> Result<Vec<Lease>, SourceError> {
        self.source.own().await
    }
    async fn rescue(&self, leases: &[Foreign], whole: bool) -> Result<usize, SourceError> {
        self.source.rescue(leases, whole).await
    }
    async fn give_back(&self, lease: &Lease) -> Result<(), SourceError> {
        self.source.give_back(lease).await
    }
    async fn rehome(&self, dead: &[NodeId]) -> Result<(), SourceError> {
        self.source.rehome(dead).await
    }
}

/// A node's rescuer at work.
struct Rescuer {
    looks: watch::Receiver<u32>,
    run: JoinHandle<()>,
}

impl Rescuer {
    fn of(node: &Node, held: Vec<Lease>) -> Self {
        let (looks, seen) = watch::channel(0);
        let watch = Arc::new(Counted { source: node.source.clone(), looks });
        let run = tokio::spawn(rescuer::run(watch, move || held.clone()));
        Self { looks: seen, run }
    }

    /// Waits until it has looked so many more times.
    async fn more_looks(&mut self, more: u32) {
        let goal = *self.looks.borrow() + more;
        tokio::time::timeout(DEADLINE, self.looks.wait_for(|looks| *looks >= goal)).await.unwrap().unwrap();
    }

    async fn end(self) {
        self.run.abort();
        assert!(self.run.await.is_err_and(|error| error.is_cancelled()), "it runs until it is dropped");
    }
}

async fn one_of(queue: &Queue, node: &Node) -> ClaimedTask {
    queue.put(&plain(queue.session().await, "x")).await;
    node.take_one().await
}

async fn until_status(queue: &Queue, task: &ClaimedTask, status: &str) {
    let id = task.lease.task;
    queue.until(&format!("SELECT status = '{status}' FROM agentpool.tasks WHERE id = '{id}'")).await;
}

fn worktree() -> WorktreeFacts {
    WorktreeFacts { path: "/srv/w".into(), base_commit: "c0de".into(), branch: "b".into() }
}

fn lease_of(tasks: &[ClaimedTask], session: Uuid) -> Lease {
    tasks.iter().map(|task| task.lease).find(|lease| lease.session.0 == session).expect("it was claimed")
}

#[tokio::test]
async fn f01_a_nodes_own_past_is_rescued_at_once_and_whole() {
    let queue = Queue::new().await;
    let before = queue.node().await;
    let id = before.id;
    queue.put(&plain(queue.local_session(id).await, "local")).await;
    let cloned = queue.session().await;
    queue.put(&plain(cloned, "cloned")).await;
    let tasks = before.take(9).await;
    assert_eq!(tasks.len(), 2);
    before.source.save_worktree(&lease_of(&tasks, cloned), &worktree()).await.unwrap();
    drop(before);
    let after = queue.start_of(id).await;
    let mut rescuer = Rescuer::of(&after, Vec::new());
    for task in &tasks {
        until_status(&queue, task, "queued").await;
    }
    rescuer.more_looks(1).await;
    rescuer.end().await;
    let again = after.take(9).await;
    assert_eq!(again.len(), 2);
    for task in again {
        assert_eq!((task.attempt, task.failures, task.lease.fence.0), (2, 0, 2), "uncharged");
        assert_eq!(task.previous_fence.map(|fence| fence.0), Some(1));
    }
    queue.assert_lanes_are_sound().await;
}

#[tokio::test]
async fn of_another_node_only_what_can_move_is_taken() {
    let queue = Queue::new().await;
    let (dead, other) = (queue.node().await, queue.node().await);
    let (local, made, movable) =
        (queue.local_session(dead.id).await, queue.session().await, queue.session().await);
    for (session, prompt) in [(local, "local"), (made, "has a worktree"), (movable, "can move")] {
        queue.put(&plain(session, prompt)).await;
    }
    let tasks = dead.take(9).await;
    assert_eq!(tasks.len(), 3);
    dead.source.save_worktree(&lease_of(&tasks, made), &worktree()).await.unwrap();
    let (foreign, _) = other.source.look().await.unwrap();
    assert_eq!(other.source.rescue(&foreign, false).await.unwrap(), 1);
    assert_eq!(queue.lane(made, "home_node").await, dead.id.to_string());
    let taken = other.take(9).await;
    assert_eq!(taken.len(), 1);
    assert_eq!(taken[0].prompt, "can move");
    queue.assert_lanes_are_sound().await;
}

#[tokio::test]
async fn a_lease_renewed_since_it_was_seen_is_left_alone() {
    let queue = Queue::new().await;
    let (owner, other) = (queue.node().await, queue.node().await);
    let task = one_of(&queue, &owner).await;
    let (foreign, _) = other.source.look().await.unwrap();
    owner.source.renew(&[task.lease]).await.unwrap();
    assert_eq!(other.source.rescue(&foreign, true).await.unwrap(), 0);
    let (foreign, _) = other.source.look().await.unwrap();
    assert_eq!(other.source.rescue(&foreign, true).await.unwrap(), 1);
    assert_eq!(other.source.rescue(&foreign, true).await.unwrap(), 0, "once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_lock_is_gone_is_dead_long_before_its_leases_end() {
    let queue = Queue::new().await;
    let (dead, other) = (queue.node().await, queue.node().await);
    dead.live().await;
    let task = one_of(&queue, &dead).await;
    let idle = queue.session().await;
    queue.put_all(idle, &["done there", "next"]).await;
    let first = dead.take_one().await;
    dead.complete(&first).await;
    let held =
        "SELECT count(*) > 0 FROM pg_locks WHERE locktype = 'advisory' AND classid = 1095782477 AND granted
                AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    queue.until(held).await;
    let mut rescuer = Rescuer::of(&other, Vec::new());
    rescuer.more_looks(3).await;
    assert_eq!(queue.status(task.lease.task.0).await, "dispatched", "it lives");
    let before = *rescuer.looks.borrow();
    drop(dead);
    until_status(&queue, &task, "queued").await;
    let looks = *rescuer.looks.borrow() - before;
    assert!(looks < 12, "{looks} looks, a second apart: that was the end of the lease, not of the lock");
    // What was idle there moves too, and somebody hears of it.
    queue
        .until("SELECT bool_and(home_node = '00000000-0000-0000-0000-000000000000') FROM agentpool.lanes")
        .await;
    rescuer.end().await;
    assert_eq!(other.take(9).await.len(), 2);
    queue.assert_lanes_are_sound().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_steals_nothing() {
    let queue = Queue::new().await;
    let (owner, other) = (queue.node().await, queue.node().await);
    let task = one_of(&queue, &owner).await;
    // A node whose listener will be slow to come back: its lock is seen held, and then it is gone.
    let lock = queue.psql().await;
    lock.execute("SELECT pg_advisory_lock(1095782477, $1)", &[&owner.lock_key]).await.unwrap();
    let mut rescuer = Rescuer::of(&other, Vec::new());
    rescuer.more_looks(3).await;
    let everybody = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                     WHERE datname = current_database() AND pid <> pg_backend_pid()";
    assert!(queue.one::<i64>(everybody).await >= 2);
    let gone = format!(
        "SELECT NOT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND classid = 1095782477 AND objid = {}
             AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))",
        owner.lock_key
    );
    queue.until(&gone).await;
    rescuer.more_looks(6).await;
    rescuer.end().await;
    assert_eq!(queue.status(task.lease.task.0).await, "dispatched");
    // Its answers say unavailable until the pool has noticed; then it goes on under the same fence.
    let renewed = loop {
        match owner.source.renew(&[task.lease]).await {
            Ok(renewed) => break renewed,
            Err(error) => assert!(matches!(error, SourceError::Unavailable(_)), "{error:?}"),
        }
    };
    assert_eq!(renewed.len(), 1);
    owner.complete(&task).await;
}

#[tokio::test]
async fn a_look_over_a_new_connection_voids_what_was_seen() {
    let queue = Queue::new().await;
    let node = queue.node().await;
    node.source.look().await.unwrap();
    node.source.look().await.unwrap();
    let everybody = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                     WHERE datname = current_database() AND pid <> pg_backend_pid()";
    queue.one::<i64>(everybody).await;
    let look = node.source.look().await;
    assert!(matches!(look, Err(SourceError::Unavailable(_))), "{look:?}");
}

#[tokio::test]
async fn f91_the_twentieth_loss_of_a_node_is_the_last_and_a_drain_is_no_loss() {
    let queue = Queue::new().await;
    let (dead, other) = (queue.node().await, queue.node().await);
    for (attempt, losses, status) in [(100, 0, "queued"), (19, 18, "queued"), (20, 19, "failed")] {
        let task = one_of(&queue, &dead).await;
        let id = task.lease.task;
        let before =
            format!("UPDATE agentpool.tasks SET attempt = {attempt}, losses = {losses} WHERE id = '{id}'");
        queue.sql.batch_execute(&before).await.unwrap();
        let (foreign, _) = other.source.look().await.unwrap();
        assert_eq!(other.source.rescue(&foreign, false).await.unwrap(), 1);
        let row = queue.store.task(id.0).await.unwrap().unwrap();
        assert_eq!(
            (row.status.as_str(), row.failure_reason.as_deref(), row.failures),
            (status, Some("node_lost"), 0)
        );
        assert_eq!(row.finished_at.is_some(), status == "failed");
        let after: i32 = queue.one(&format!("SELECT losses FROM agentpool.tasks WHERE id = '{id}'")).await;
        assert_eq!(after, losses + 1);
        // Out of the way of the next one: the lane has no home any more.
        queue.sql.batch_execute("UPDATE agentpool.lanes SET paused = true").await.unwrap();
    }
    queue.assert_lanes_are_sound().await;
}

#[tokio::test]
async fn a_rescue_closes_open_questions_and_marks_the_conversation() {
    let queue = Queue::new().await;
    let (dead, other) = (queue.node().await, queue.node().await);
    let task = one_of(&queue, &dead).await;
    let begin = TurnBegin {
        lease: task.lease,
        checkpoint: "c0de".into(),
        found: agentpool::dispatch::task_source::FoundChanges::default(),
        agent: task.agent.clone(),
        backend: BackendKind::Scripted,
        agent_session_id: "c".into(),
        server_port: None,
        config_hash: "h".into(),
    };
    dead.source.begin_turn(&begin).await.unwrap();
    let request = PermissionRequest {
        agent_request_id: "q".into(),
        kind: PermissionKind::Tool,
        access: Access::Unknown,
        title: "bash".into(),
        payload: serde_json::json!({}),
    };
    let ask = PermissionAsk { request, answered: None, rule: None, deadline: None };
    dead.source.ask_permission(&task.lease, &agent("a"), &ask).await.unwrap();
    let (foreign, _) = other.source.look().await.unwrap();
    assert_eq!(other.source.rescue(&foreign, false).await.unwrap(), 1);
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
        "cancelled"
    );
    let session = task.lease.session.0;
    assert_eq!(queue.store.conversations(session).await.unwrap()[0].status, "crashed");
}

#[tokio::test]
async fn f110_a_lease_that_no_turn_knows_is_given_back_by_its_own_node() {
    let queue = Queue::new().await;
    let node = queue.node().await;
    // The COMMIT of this claim was answered to nobody.
    let (lost, known) = (one_of(&queue, &node).await, one_of(&queue, &node).await);
    let mut rescuer = Rescuer::of(&node, vec![known.lease]);
    until_status(&queue, &lost, "queued").await;
    rescuer.more_looks(3).await;
    rescuer.end().await;
    assert_eq!(queue.status(known.lease.task.0).await, "dispatched");
    let again = node.take_one().await;
    assert_eq!((again.lease.task, again.failures), (lost.lease.task, 0));
}

#[tokio::test]
async fn idle_lanes_of_a_dead_home_move_where_they_can() {
    let queue = Queue::new().await;
    let (dead, other) = (queue.node().await, queue.node().await);
    let (local, made, movable) =
        (queue.local_session(dead.id).await, queue.session().await, queue.session().await);
    for session in [local, made, movable] {
        queue.put_all(session, &["1", "2"]).await;
    }
    let tasks = dead.take(9).await;
    dead.source.save_worktree(&lease_of(&tasks, made), &worktree()).await.unwrap();
    let ends: Vec<_> = tasks.iter().map(completed).collect();
    assert_eq!(dead.finish(&ends).await.len(), 3);
    assert!(other.take(9).await.is_empty(), "all are at home");
    other.source.rehome(&[Uuid::new_v4()].map(NodeId)).await.unwrap();
    assert!(other.take(9).await.is_empty(), "that was another node's");
    other.source.rehome(&[dead.id]).await.unwrap();
    let moved = other.take(9).await;
    assert_eq!(moved.iter().map(|task| task.lease.session.0).collect::<Vec<_>>(), [movable]);
    assert_eq!(queue.lane(movable, "home_node").await, other.id.to_string());
    assert_eq!(queue.lane(made, "home_node").await, dead.id.to_string());
}
