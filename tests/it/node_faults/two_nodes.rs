//! Two nodes on one Postgres, of which one is killed or stopped. What may move (a clone URL, no worktree yet) moves; what
//! may not waits for its home.

use crate::support::cluster::fresh_database;
use crate::support::repos::Repos;
use crate::support::serve::{Place, SCRIPTED, Served};
use agentpool::wire::api::{NewSession, SessionView, TaskView};
use nix::sys::signal::Signal;
use reqwest::StatusCode;
use uuid::Uuid;

/// Two nodes. The first one waits before each turn, so that its leases are on work that may still move.
struct Pair {
    first: Served,
    second: Served,
    places: [Place; 2],
    origin: Repos,
}

impl Pair {
    /// `wait` is in milliseconds.
    async fn new(wait: &str) -> Self {
        let database = fresh_database().await;
        let places = [Place::on(&database, SCRIPTED), Place::on(&database, SCRIPTED)];
        let first = places[0].serve_with(&[("FAILPOINTS", &format!("claimed=delay:{wait}"))]).await;
        let second = places[1].serve().await;
        second.says("another node is there").await;
        Self { first, second, places, origin: Repos::new() }
    }

    /// A session that any node may run.
    async fn movable(&self) -> SessionView {
        let url = Some(format!("file://{}", self.origin.user.display()));
        self.first
            .talk
            .post("/api/sessions", &NewSession { url, ..NewSession::default() }, StatusCode::CREATED)
            .await
    }

    /// A task that may move, leased by the first node: of those submitted the second takes some.
    async fn leased_by_the_first(&self, prompt: &str) -> TaskView {
        let talk = &self.first.talk;
        loop {
            let session = self.movable().await;
            let task = talk.submit(session.id, "scripted", prompt).await;
            talk.until(&format!("SELECT status <> 'queued' FROM agentpool.tasks WHERE id = '{}'", task.id))
                .await;
            if self.owner(session.id).await == Some(self.places[0].node_id()) {
                return task;
            }
        }
    }

    async fn owner(&self, session: Uuid) -> Option<Uuid> {
        let sql = self.first.talk.sql().await;
        let lane = "SELECT lease_node FROM agentpool.lanes WHERE session_id = $1";
        sql.query_one(lane, &[&session]).await.unwrap().get(0)
    }

    /// Was the task taken over while the lease of its dead owner had not run out yet? And the seconds since `lost`.
    async fn taken_over(&self, task: Uuid, lease: &LeaseSeen) -> (bool, f64) {
        let (ended, _) = self.second.talk.finish(task).await;
        assert_eq!((ended.status.as_str(), ended.attempt, ended.failures), ("completed", 2, 0), "{ended:?}");
        let sql = self.second.talk.sql().await;
        let row = sql
            .query_one(
                "SELECT t.dispatched_at < $2, extract(epoch FROM t.dispatched_at - $3)::float8,
                        (SELECT array_agg(node_id) FROM agentpool.session_worktrees w WHERE w.session_id = t.session_id)
                 FROM agentpool.tasks t WHERE id = $1",
                &[&task, &lease.until, &lease.lost_at],
            )
            .await
            .unwrap();
        assert_eq!(row.get::<_, Vec<Uuid>>(2), [self.places[1].node_id()], "the lost owner made nothing");
        (row.get(0), row.get(1))
    }

    /// The lease on a task and the present moment, by the database's clock.
    async fn lease(&self, task: Uuid) -> LeaseSeen {
        let sql = self.second.talk.sql().await;
        let row = sql
            .query_one(
                "SELECT l.lease_until, clock_timestamp() FROM agentpool.lanes l WHERE l.head_task = $1 AND l.state = 2",
                &[&task],
            )
            .await
            .unwrap();
        LeaseSeen { until: row.get(0), lost_at: row.get(1) }
    }
}

struct LeaseSeen {
    until: chrono::DateTime<chrono::Utc>,
    lost_at: chrono::DateTime<chrono::Utc>,
}

#[tokio::test(flavor = "multi_thread")]
async fn f01_a_killed_node_is_noticed_long_before_its_leases_end_and_only_what_may_move_is_taken() {
    let pair = Pair::new("600000").await;
    let task = pair.leased_by_the_first("TOOL:write a.txt one\nSAY: moved").await;
    // On a path of the first node: nobody else may run it.
    let local = pair.first.talk.session().await;
    let stays = pair.first.talk.submit(local.id, "scripted", "SAY: at home").await;
    pair.first
        .talk
        .until(&format!("SELECT status <> 'queued' FROM agentpool.tasks WHERE id = '{}'", stays.id))
        .await;
    pair.first.signal(Signal::SIGKILL);
    let lease = pair.lease(task.id).await;
    let (early, secs) = pair.taken_over(task.id, &lease).await;
    assert!(early, "taken after {secs} s: by the end of the lease, not by the lock");
    println!("a killed node's work was taken over {secs:.2} s after the kill");
    let waiting = pair.second.talk.get::<TaskView>(&format!("/api/tasks/{}", stays.id)).await;
    assert_eq!((waiting.status.as_str(), waiting.attempt), ("dispatched", 1), "it waits for its home");
    let back = pair.places[0].serve().await;
    let (stays, _) = back.talk.finish(stays.id).await;
    assert_eq!((stays.status.as_str(), stays.failures), ("completed", 0), "{stays:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn f06_a_stopped_nodes_work_is_taken_after_its_lease_and_when_it_goes_on_it_writes_nothing() {
    // It goes on with its turn as soon as it goes on at all.
    let pair = Pair::new("1500").await;
    let task = pair.leased_by_the_first("TOOL:write a.txt one\nSLOW:300\nSAY: moved").await;
    pair.first.signal(Signal::SIGSTOP);
    let lease = pair.lease(task.id).await;
    let moved = format!("SELECT attempt = 2 FROM agentpool.tasks WHERE id = '{}'", task.id);
    pair.second.talk.until(&moved).await;
    pair.first.signal(Signal::SIGCONT);
    pair.first.says("the lease is lost; nothing is written").await;
    let (early, secs) = pair.taken_over(task.id, &lease).await;
    assert!(!early, "stolen {secs} s after the stop, before its lease had ended");
    println!("a stopped node's work was taken over {secs:.2} s after the stop");
    // It works on.
    let session = pair.first.talk.session().await;
    assert_eq!(pair.first.talk.turn(session.id, "scripted", "SAY: back").await.status, "completed");
}
