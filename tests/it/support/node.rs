//! A whole node in the test process: real Postgres, real git, its own data folder and project.

use super::cluster::fresh_database;
use super::opencode::{model_config, opencode_program};
use super::repos::Repos;
use super::shims::agentpool;
use agentpool::app::Node;
use agentpool::config::Config;
use agentpool::domain::agent::AgentName;
use agentpool::scripted_model::ScriptedModel;
use agentpool::shutdown::Shutdown;
use agentpool::wire::api::{NewSession, NewTask, PermissionView, SessionView, TaskView};
use agentpool::wire::event::EventView;
use eventsource_stream::Eventsource;
use futures::StreamExt;
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_postgres::{Client, NoTls};
use uuid::Uuid;

/// Longer than anything real takes, short enough to fail a hung test.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// What a test needs to talk to a node.
#[derive(Clone)]
pub struct Talk {
    pub url: String,
    pub token: String,
    pub database: tokio_postgres::Config,
    pub project: PathBuf,
}

/// A node that this test owns.
pub struct TestNode {
    talk: Talk,
    pub shutdown: Shutdown,
    pub config: Config,
    running: JoinHandle<Result<(), agentpool::app::AppError>>,
    folders: Vec<TempDir>,
}

impl std::ops::Deref for TestNode {
    type Target = Talk;

    fn deref(&self) -> &Talk {
        &self.talk
    }
}

/// A configuration with one scripted agent, on an empty database and folder. The poll is a minute: what happens sooner
/// happens by NOTIFY.
pub async fn scripted_config(folder: &TempDir) -> Config {
    let database = fresh_database().await;
    let mut config = Config::new(folder.path().join("data"));
    config.listen = "127.0.0.1:0".parse().unwrap();
    config.database_url = Some(connection_string(&database.config));
    config.poll_secs = 60.0;
    config.drain_timeout_secs = 5;
    config.agents.clear();
    config.agents.insert(AgentName::new("scripted").unwrap(), scripted_agent("scripted"));
    config
}

/// An agent's configuration, as a file would give it.
pub fn scripted_agent(backend: &str) -> agentpool::config::AgentConfig {
    serde_json::from_value(serde_json::json!({ "backend": backend })).unwrap()
}

/// As `database_url` takes it.
pub fn connection_string(config: &tokio_postgres::Config) -> String {
    let host = match &config.get_hosts()[0] {
        tokio_postgres::config::Host::Unix(path) => path.display().to_string(),
        tokio_postgres::config::Host::Tcp(name) => name.clone(),
    };
    format!("host={host} user={} dbname={}", config.get_user().unwrap(), config.get_dbname().unwrap())
}

impl TestNode {
    /// With the scripted agent alone.
    pub async fn scripted() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = scripted_config(&folder).await;
        Self::start(config, vec![folder]).await
    }

    /// With a configuration of the test's own. `folders` live as long as the node.
    pub async fn start(config: Config, mut folders: Vec<TempDir>) -> Self {
        let repos = Repos::new();
        let project = repos.user.clone();
        folders.push(repos.dir);
        Self::start_on(config, project, folders).await
    }

    /// On a project that is there already.
    pub async fn start_on(config: Config, project: PathBuf, folders: Vec<TempDir>) -> Self {
        // `RUST_LOG=agentpool=debug` shows what the node says; only the first of a process can set it up.
        let _ = tracing_subscriber::fmt()
            .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
            .with_test_writer()
            .try_init();
        let shutdown = Shutdown::default();
        let node = Node::start(config.clone(), agentpool(), shutdown.clone()).await.unwrap();
        let (url, token, database) = (node.url(), node.token().to_owned(), node.database());
        let running = tokio::spawn(node.join());
        Self { talk: Talk { url, token, database, project }, shutdown, config, running, folders }
    }

    /// Drains and waits for the end; gives back what a next start needs.
    pub async fn stop(self) -> (Config, PathBuf, Vec<TempDir>) {
        // Asked twice it would end at once.
        if !self.shutdown.is_asked() {
            self.shutdown.ask();
        }
        tokio::time::timeout(PATIENCE, self.running).await.expect("the drain ends").unwrap().unwrap();
        (self.config, self.talk.project, self.folders)
    }
}

impl Talk {
    pub async fn sql(&self) -> Client {
        let (client, connection) = self.database.connect(NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }

    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        reqwest::Client::new().request(method, format!("{}{path}", self.url)).bearer_auth(&self.token)
    }

    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> T {
        let response = self.request(Method::GET, path).send().await.unwrap();
        read(response, StatusCode::OK).await
    }

    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
        expected: StatusCode,
    ) -> T {
        let response = self.request(Method::POST, path).json(body).send().await.unwrap();
        read(response, expected).await
    }

    pub async fn session(&self) -> SessionView {
        let path = Some(self.project.display().to_string());
        self.post("/api/sessions", &NewSession { path, ..NewSession::default() }, StatusCode::CREATED).await
    }

    pub async fn submit(&self, session: Uuid, agent: &str, prompt: &str) -> TaskView {
        let task =
            NewTask { session_id: session, agent: agent.into(), prompt: prompt.into(), ..NewTask::default() };
        self.post("/api/tasks", &task, StatusCode::CREATED).await
    }

    /// Follows the task's stream to its end: every event, and the task as it ended.
    pub async fn finish(&self, task: Uuid) -> (TaskView, Vec<EventView>) {
        let follow = async {
            let events = self.follow(task, |_| false).await;
            (self.get(&format!("/api/tasks/{task}")).await, events)
        };
        tokio::time::timeout(PATIENCE, follow).await.expect("the task ends")
    }

    /// Follows until an event for which `enough` is true, or to the end.
    pub async fn follow(&self, task: Uuid, enough: impl Fn(&EventView) -> bool) -> Vec<EventView> {
        let response = self.request(Method::GET, &format!("/api/tasks/{task}/events")).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        let mut stream = response.bytes_stream().eventsource();
        let mut events = Vec::new();
        while let Some(event) = stream.next().await {
            let event = event.unwrap();
            match event.event.as_str() {
                "message" => {
                    let view: EventView = serde_json::from_str(&event.data).unwrap();
                    let done = enough(&view);
                    events.push(view);
                    if done {
                        return events;
                    }
                }
                "end" => return events,
                _ => {}
            }
        }
        panic!("the stream broke off after {events:?}")
    }

    /// Submits and waits for the end.
    pub async fn turn(&self, session: Uuid, agent: &str, prompt: &str) -> TaskView {
        let task = self.submit(session, agent, prompt).await;
        self.finish(task.id).await.0
    }

    /// Waits until a query answers true.
    pub async fn until(&self, query: &str) {
        let sql = self.sql().await;
        let waiting = async {
            while !sql.query_one(query, &[]).await.unwrap().get::<_, bool>(0) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("never true: {query}"));
    }

    pub async fn one_pending_permission(&self) -> PermissionView {
        self.until("SELECT count(*) = 1 FROM agentpool.permission_requests WHERE status = 'pending'").await;
        self.get::<Vec<PermissionView>>("/api/permissions").await.remove(0)
    }
}

async fn read<T: DeserializeOwned>(response: Response, expected: StatusCode) -> T {
    let status = response.status();
    let text = response.text().await.unwrap();
    assert_eq!(status, expected, "{text}");
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// A node with the real opencode and a scripted model, shared by the whole test process: each server takes 700 MB. Agents:
/// `opencode` is allowed everything, `asking` asks a person, `timid` is refused everything. Its poll is a minute.
pub async fn shared_opencode() -> (Talk, &'static ScriptedModel) {
    static SHARED: OnceLock<(Talk, ScriptedModel)> = OnceLock::new();
    let shared = tokio::task::spawn_blocking(|| SHARED.get_or_init(start_shared)).await.unwrap();
    (shared.0.clone(), &shared.1)
}

/// Each test has a runtime of its own that ends with it: the node lives on threads of its own.
fn start_shared() -> (Talk, ScriptedModel) {
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let model = ScriptedModel::start(0).unwrap();
            let folder = tempfile::tempdir().unwrap();
            let config = opencode_config(&folder, &model.base_url()).await;
            let node = TestNode::start(config, vec![folder]).await;
            tell.send((node.talk.clone(), model)).unwrap();
            node.running.await.unwrap().unwrap();
        });
    });
    told.recv().expect("the shared node did not start; its thread says why")
}

/// As [`scripted_config`], with the real opencode three times: one server each, started when it is first asked.
pub async fn opencode_config(folder: &TempDir, model_url: &str) -> Config {
    let mut config = scripted_config(folder).await;
    let program = opencode_program().await;
    for (name, policy) in [("opencode", "allow"), ("asking", "ask"), ("timid", "deny")] {
        let agent = serde_json::json!({
            "backend": "opencode_server", "command": program, "home": "isolated", "permission": {"policy": policy},
            "env": {"OPENCODE_CONFIG_CONTENT": model_config(model_url), "OPENCODE_DISABLE_MODELS_FETCH": "1"},
        });
        config.agents.insert(AgentName::new(name).unwrap(), serde_json::from_value(agent).unwrap());
    }
    config
}
