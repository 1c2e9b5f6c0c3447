//! A migrated database with two agents, nodes that claim from it, and plain connections beside them, as psql would be.

use super::cluster::{TestDatabase, fresh_database};
use agentpool::dispatch::pg_source::PgSource;
use agentpool::dispatch::task_source::{
    AppendOutcome, EventBatch, Finish, FinishOutcome, LoggedEvent, TaskSource, Tick, Want,
};
use agentpool::domain::agent::AgentName;
use agentpool::domain::failure::FailureReason;
use agentpool::domain::ids::{Incarnation, NodeId};
use agentpool::domain::task::{ClaimedTask, Lease, TaskStatus};
use agentpool::domain::turn::TurnEvent;
use agentpool::store::Store;
use agentpool::store::enqueue::{Enqueued, NewTask};
use agentpool::store::listener::{ListenerState, listener};
use agentpool::store::migrate::migrate;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_postgres::{Client, NoTls};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// How long anything that must happen may take on a loaded machine.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// The queue of one test.
pub struct Queue {
    pub db: TestDatabase,
    /// The store of whoever enqueues.
    pub store: Store,
    /// The test's own view of the rows.
    pub sql: Client,
}

/// One start of a node, with connections of its own.
pub struct Node {
    pub id: NodeId,
    pub incarnation: Incarnation,
    pub store: Store,
    pub source: Arc<PgSource>,
    /// The advisory lock that [`Node::live`] holds.
    pub lock_key: i32,
    stop: CancellationToken,
}

pub fn agent(name: &str) -> AgentName {
    AgentName::new(name).unwrap()
}

/// A task for agent `a` with nothing special about it.
pub fn plain(session: Uuid, prompt: &str) -> NewTask {
    NewTask {
        session,
        agent: "a".into(),
        prompt: prompt.into(),
        model: None,
        mode_id: None,
        thinking_option_id: None,
        feature_values: None,
        priority: None,
        run_at: None,
        max_failures: None,
    }
}

impl Queue {
    /// A migrated database that knows the agents `a` and `b`.
    pub async fn new() -> Self {
        Self::on(fresh_database().await).await
    }

    /// The same in a database that is there.
    pub async fn on(db: TestDatabase) -> Self {
        let store = Store::new(db.config.clone(), db.config.clone());
        migrate(&store).await.unwrap();
        store.upsert_agent("a", "scripted", None).await.unwrap();
        store.upsert_agent("b", "scripted", None).await.unwrap();
        let sql = connect(&db).await;
        Self { db, store, sql }
    }

    /// Another plain connection: a person with psql.
    pub async fn psql(&self) -> Client {
        connect(&self.db).await
    }

    /// An open session of a project that any node can clone.
    pub async fn session(&self) -> Uuid {
        let url = Some("https://example.org/repository.git");
        let project = self
            .store
            .ensure_project(agentpool::store::sessions::DEFAULT_WORKSPACE, "cloned", None, url, None)
            .await
            .unwrap();
        self.store.create_session(project, "", None).await.unwrap()
    }

    /// An open session of a project that lives on one node.
    pub async fn local_session(&self, node: NodeId) -> Uuid {
        let project = self
            .store
            .ensure_project(
                agentpool::store::sessions::DEFAULT_WORKSPACE,
                "local",
                Some("/srv/r"),
                None,
                Some(node.0),
            )
            .await
            .unwrap();
        self.store.create_session(project, "", None).await.unwrap()
    }

    /// Enqueues as the API does.
    pub async fn put(&self, task: &NewTask) -> Uuid {
        match self.store.enqueue(task, None).await.unwrap() {
            Enqueued::New(id) => id,
            other => panic!("{other:?}"),
        }
    }

    /// Enqueues one plain task for each prompt, in order.
    pub async fn put_all(&self, session: Uuid, prompts: &[&str]) -> Vec<Uuid> {
        let mut ids = Vec::new();
        for prompt in prompts {
            ids.push(self.put(&plain(session, prompt)).await);
        }
        ids
    }

    /// A start of a new node.
    pub async fn node(&self) -> Node {
        self.start_of(NodeId(Uuid::new_v4())).await
    }

    /// A new start of a node.
    pub async fn start_of(&self, id: NodeId) -> Node {
        let incarnation = Incarnation(Uuid::new_v4());
        let store = Store::new(self.db.config.clone(), self.db.config.clone());
        let lock_key = store.register_node(id.0, incarnation.0, "host").await.unwrap();
        let stop = CancellationToken::new();
        // Silent until `live` runs one: most tests want no hints.
        let (listener, _) = listener(store.clone(), lock_key, stop.clone());
        let (source, _) = PgSource::new(store.clone(), id, incarnation, &listener);
        Node { id, incarnation, store, source: Arc::new(source), lock_key, stop }
    }

    /// The one column of one row.
    pub async fn one<T: for<'a> tokio_postgres::types::FromSql<'a>>(&self, query: &str) -> T {
        self.sql.query_one(query, &[]).await.unwrap_or_else(|error| panic!("{query}: {error:?}")).get(0)
    }

    /// How many tasks wait and how many run.
    pub async fn depth(&self) -> (i64, i64) {
        let depth = self.store.queue_depth().await.unwrap();
        (depth.queued, depth.running)
    }

    /// Status of a task.
    pub async fn status(&self, task: Uuid) -> String {
        self.one(&format!("SELECT status FROM agentpool.tasks WHERE id = '{task}'")).await
    }

    /// A column of a session's lane, as text.
    pub async fn lane(&self, session: Uuid, column: &str) -> String {
        self.one(&format!(
            "SELECT coalesce({column}::text, 'null') FROM agentpool.lanes WHERE session_id = '{session}'"
        ))
        .await
    }

    /// Polls a query that answers one boolean until it is true.
    pub async fn until(&self, query: &str) {
        let begun = Instant::now();
        while !self.one::<bool>(query).await {
            assert!(begun.elapsed() < DEADLINE, "not within {DEADLINE:?}: {query}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Polls until a backend waits for a lock while it runs a statement that contains these words.
    pub async fn until_blocked(&self, words: &str) {
        self.until(&format!(
            "SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%{words}%' \
             AND pid <> pg_backend_pid()"
        ))
        .await;
    }

    /// Asserts that Postgres had to break no deadlock; every node is gone. A backend's counts are sure to be there when it
    /// has ended.
    pub async fn assert_no_deadlocks(&self) {
        self.store.close();
        self.until(
            "SELECT count(*) = 0 FROM pg_stat_activity
             WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'",
        )
        .await;
        let deadlocks: i64 =
            self.one("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()").await;
        assert_eq!(deadlocks, 0);
    }

    /// Asserts that no lane's row contradicts its tasks.
    pub async fn assert_lanes_are_sound(&self) {
        let broken: i64 = self
            .one(
                "SELECT count(*) FROM agentpool.lanes l
                 LEFT JOIN LATERAL (SELECT id, agent FROM agentpool.tasks t WHERE t.session_id = l.session_id
                      AND t.lane_position IS NOT NULL AND t.status = 'queued' ORDER BY t.lane_position LIMIT 1) h ON true
                 WHERE CASE WHEN l.state = 2
                            THEN NOT EXISTS (SELECT FROM agentpool.tasks t WHERE t.id = l.head_task
                                             AND t.status IN ('dispatched', 'running') AND t.fence = l.fence)
                            ELSE l.head_task IS DISTINCT FROM h.id OR l.head_agent IS DISTINCT FROM h.agent
                              OR (l.state = 0) <> (h.id IS NULL) END",
            )
            .await;
        assert_eq!(broken, 0, "lanes whose head or state is not what their tasks say");
    }
}

impl Node {
    /// Runs the real listener (hints and the advisory lock) until the node is dropped.
    pub async fn live(&self) {
        let (listener, run) = listener(self.store.clone(), self.lock_key, self.stop.clone());
        tokio::spawn(run);
        let mut state = listener.state.clone();
        let listening = state.wait_for(|s| *s == ListenerState::Listening);
        tokio::time::timeout(DEADLINE, listening).await.unwrap().unwrap();
    }

    pub async fn admit(&self) {
        self.source.admit().await.unwrap();
    }

    /// Admits, then claims for the agents `a` and `b`.
    pub async fn take(&self, hands: u16) -> Vec<ClaimedTask> {
        self.admit().await;
        self.claim(hands, &["a", "b"]).await
    }

    /// Admits, then claims exactly one.
    pub async fn take_one(&self) -> ClaimedTask {
        let mut claimed = self.take(1).await;
        assert_eq!(claimed.len(), 1, "{claimed:?}");
        claimed.remove(0)
    }

    /// Claims without an admission.
    pub async fn claim(&self, hands: u16, agents: &[&str]) -> Vec<ClaimedTask> {
        self.tick(&[], hands, agents).await.claimed
    }

    pub async fn tick(&self, finishes: &[Finish], hands: u16, agents: &[&str]) -> Tick {
        let want = Want { hands, agents: agents.iter().map(|name| agent(name)).collect() };
        self.source.tick(finishes, &want).await.unwrap()
    }

    /// Finishes and claims nothing.
    pub async fn finish(&self, finishes: &[Finish]) -> Vec<FinishOutcome> {
        self.tick(finishes, 0, &["a", "b"]).await.finished
    }

    /// Finishes one turn well.
    pub async fn complete(&self, task: &ClaimedTask) {
        assert_eq!(self.finish(&[completed(task)]).await, [FinishOutcome::Done]);
    }

    /// Claims and completes one at a time until nothing is left; the prompts in the order in which they ran.
    pub async fn drain(&self) -> Vec<String> {
        let mut ran = Vec::new();
        loop {
            let claimed = self.take(1).await;
            let Some(task) = claimed.first() else { return ran };
            ran.push(task.prompt.clone());
            self.complete(task).await;
        }
    }

    /// Appends texts as events that follow `after`.
    pub async fn say(&self, lease: Lease, after: i64, texts: &[&str]) -> AppendOutcome {
        self.source.append(&[batch(lease, after + 1, texts)]).await.unwrap()[0]
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop.cancel();
        self.store.close();
    }
}

pub fn completed(task: &ClaimedTask) -> Finish {
    ended(task, TaskStatus::Completed)
}

/// A finish without a failure and without a conversation.
pub fn ended(task: &ClaimedTask, status: TaskStatus) -> Finish {
    Finish {
        lease: task.lease,
        status,
        wait: Duration::ZERO,
        failure: None,
        charged: false,
        conversation: None,
    }
}

/// A turn that goes back to the queue.
pub fn requeued(task: &ClaimedTask, wait: Duration, reason: FailureReason, charged: bool) -> Finish {
    Finish {
        wait,
        failure: Some((reason, "it did not work".into())),
        charged,
        ..ended(task, TaskStatus::Queued)
    }
}

pub fn text(words: &str) -> LoggedEvent {
    LoggedEvent::Agent(TurnEvent::Text(words.into()))
}

pub fn batch(lease: Lease, first_seq: i64, texts: &[&str]) -> EventBatch {
    EventBatch { lease, first_seq, events: texts.iter().map(|words| text(words)).collect() }
}

/// A connection that lives as long as its client.
pub async fn connect(db: &TestDatabase) -> Client {
    let (client, connection) = db.config.connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}
