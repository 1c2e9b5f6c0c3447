//! The load: tasks put in by plain SQL for as long as the run lasts. What was committed is acknowledged, and remembered here.

use crate::faults::Plan;
use crate::nodes::{COUNT, Nodes};
use crate::support::cluster::TestDatabase;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_postgres::{Client, NoTls};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// A task that was acknowledged.
#[derive(Clone, Debug)]
pub struct Submitted {
    pub task: Uuid,
    /// The word that its answer must hold.
    pub word: String,
    /// The file that it must write, if it is to write one.
    pub file: Option<String>,
    pub cancelled: bool,
}

pub struct Load {
    over: CancellationToken,
    running: JoinHandle<Vec<Submitted>>,
}

impl Load {
    pub async fn begin(database: &TestDatabase, nodes: &Nodes, plan: &Plan) -> Self {
        let (client, connection) = database.config.connect(NoTls).await.unwrap();
        tokio::spawn(connection);
        let mut local = Vec::new();
        for node in &nodes.all {
            let project: Uuid = client
                .query_one(
                    "INSERT INTO agentpool.projects (name, path, node_id) VALUES ('local', $1, $2) RETURNING id",
                    &[&node.place.repos.user.to_str().unwrap(), &node.place.node_id()],
                )
                .await
                .unwrap()
                .get(0);
            for _ in 0..2 {
                local.push(session(&client, project).await);
            }
        }
        let url = format!("file://{}", nodes.origin.user.display());
        let movable: Uuid = client
            .query_one(
                "INSERT INTO agentpool.projects (name, url) VALUES ('movable', $1) RETURNING id",
                &[&url],
            )
            .await
            .unwrap()
            .get(0);
        let over = CancellationToken::new();
        let submitter = Submitter {
            client,
            random: StdRng::seed_from_u64(plan.seed.wrapping_add(COUNT as u64)),
            local,
            movable,
            movable_every: Duration::from_millis(plan.movable_every_ms),
            done: Vec::new(),
        };
        Self { over: over.clone(), running: tokio::spawn(submitter.run(over)) }
    }

    /// Stops; what was acknowledged.
    pub async fn end(self) -> Vec<Submitted> {
        self.over.cancel();
        self.running.await.unwrap()
    }
}

struct Submitter {
    client: Client,
    random: StdRng,
    local: Vec<Uuid>,
    movable: Uuid,
    movable_every: Duration,
    done: Vec<Submitted>,
}

impl Submitter {
    async fn run(mut self, over: CancellationToken) -> Vec<Submitted> {
        let mut fresh = tokio::time::interval(self.movable_every);
        fresh.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while !over.is_cancelled() {
            let pause = Duration::from_millis(self.random.random_range(150..700));
            tokio::select! {
                () = over.cancelled() => {}
                _ = fresh.tick() => {
                    let session = session(&self.client, self.movable).await;
                    for _ in 0..3 {
                        self.submit(session, "scripted").await;
                    }
                }
                () = tokio::time::sleep(pause) => {
                    let session = self.local[self.random.random_range(0..self.local.len())];
                    let agent = if self.random.random_bool(0.5) { "opencode" } else { "scripted" };
                    self.submit(session, agent).await;
                    if self.random.random_bool(0.1) {
                        self.cancel_one().await;
                    }
                }
            }
        }
        // What must not outlive a node whose agents start it last.
        for session in self.local.clone() {
            let word = self.word();
            let prompt = format!("TOOL:bash setsid sleep 300 >&- 2>&- <&- & disown; echo {word}");
            self.put(
                session,
                "opencode",
                &prompt,
                Submitted { task: Uuid::nil(), word, file: None, cancelled: false },
            )
            .await;
        }
        self.done
    }

    fn word(&self) -> String {
        format!("word-{}-end", self.done.len())
    }

    async fn submit(&mut self, session: Uuid, agent: &str) {
        let word = self.word();
        let file = self.random.random_bool(0.5).then(|| format!("file-{}.txt", self.done.len()));
        // The scripted agent says a token each 20 ms, the model one each 100.
        let slow = if agent == "scripted" {
            self.random.random_range(5..120)
        } else {
            self.random.random_range(1..15)
        };
        let prompt = match (&file, agent) {
            (Some(file), "opencode") => format!("TOOL:write {file} {word}"),
            (None, "opencode") if slow > 10 => format!("SLOW:{slow}"),
            (None, "opencode") => format!("SAY: {word}"),
            (Some(file), _) => format!("SLOW:{slow}\nTOOL:write {file} x\nSAY: {word}"),
            (None, _) => format!("SLOW:{slow}\nSAY: {word}"),
        };
        let word = if prompt.starts_with("SAY") || agent == "scripted" { word } else { String::new() };
        self.put(session, agent, &prompt, Submitted { task: Uuid::nil(), word, file, cancelled: false })
            .await;
    }

    async fn put(&mut self, session: Uuid, agent: &str, prompt: &str, submitted: Submitted) {
        let insert =
            "INSERT INTO agentpool.tasks (session_id, agent, prompt) VALUES ($1, $2, $3) RETURNING id";
        let task = self.client.query_one(insert, &[&session, &agent, &prompt]).await.unwrap().get(0);
        self.done.push(Submitted { task, ..submitted });
    }

    async fn cancel_one(&mut self) {
        let newest = self.done.len().saturating_sub(8);
        let index = self.random.random_range(newest..self.done.len());
        let one = &mut self.done[index];
        one.cancelled = true;
        let cancel = "UPDATE agentpool.tasks SET cancel_requested_at = clock_timestamp() WHERE id = $1";
        self.client.execute(cancel, &[&one.task]).await.unwrap();
    }
}

async fn session(client: &Client, project: Uuid) -> Uuid {
    let insert = "INSERT INTO agentpool.sessions (project_id) VALUES ($1) RETURNING id";
    client.query_one(insert, &[&project]).await.unwrap().get(0)
}
