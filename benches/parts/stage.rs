//! The real program on its embedded Postgres, the real opencode and a scripted model, and repositories of a given size.

use crate::support::node::{PATIENCE, Talk};
use crate::support::opencode::{model_config, opencode_program};
use crate::support::repos::Repos;
use crate::support::serve::{Place, Served};
use agentpool::scripted_model::ScriptedModel;
use agentpool::wire::api::{NewSession, SessionView};
use chrono::{DateTime, Utc};
use futures::{StreamExt, stream};
use nix::sys::signal::Signal;
use reqwest::StatusCode;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;
use tokio::sync::mpsc;
use tokio_postgres::{AsyncMessage, Client, NoTls, Statement};
use uuid::Uuid;

/// The agent's name in the configuration.
pub const AGENT: &str = "opencode";

/// What outlives the program.
pub struct Stage {
    pub place: Place,
    pub clock: Clock,
    /// The real program, not its wrapper.
    pub opencode: PathBuf,
    _model: ScriptedModel,
}

/// Milliseconds since the benchmark began, for instants of this process and for times of the database alike.
#[derive(Clone, Copy)]
pub struct Clock {
    instant: Instant,
    time: DateTime<Utc>,
}

impl Clock {
    pub fn of(&self, instant: Instant) -> f64 {
        instant.duration_since(self.instant).as_secs_f64() * 1e3
    }

    pub fn of_row(&self, time: DateTime<Utc>) -> f64 {
        (time - self.time).as_seconds_f64() * 1e3
    }
}

impl Stage {
    pub async fn set() -> Self {
        let model = ScriptedModel::start(0).unwrap();
        let opencode = opencode_program().await;
        let place = Place::new(&format!(
            "[agents.{AGENT}]\nbackend = \"opencode_server\"\ncommand = {opencode:?}\nhome = \"isolated\"\n\
             [agents.{AGENT}.env]\nOPENCODE_DISABLE_MODELS_FETCH = \"1\"\nOPENCODE_CONFIG_CONTENT = '''{}'''",
            model_config(&model.base_url())
        ));
        let clock = Clock { instant: Instant::now(), time: Utc::now() };
        Self { place, clock, opencode, _model: model }
    }

    /// Starts the program and connects to its database.
    pub async fn serve(&self) -> Running {
        self.connect(self.place.serve().await).await
    }

    /// To the database of a program that is ready.
    pub async fn connect(&self, served: Served) -> Running {
        Running { served, database: Database::connect(&self.place.data()).await }
    }

    /// Its process: the one that was started with our configuration.
    pub fn service_pid(&self) -> u32 {
        let config = self.place.folder.path().join("agentpool.toml");
        let config = config.to_str().expect("a temporary folder's path is text");
        let is_it = |pid: &u32| {
            let words = command_line(*pid);
            words.iter().any(|word| word == "serve") && words.iter().any(|word| word == config)
        };
        let pids = fs::read_dir("/proc").unwrap();
        let mut pids = pids.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).filter(is_it);
        pids.next().expect("the program runs")
    }
}

/// The words that a process was started with; none for one that is gone.
pub fn command_line(pid: u32) -> Vec<String> {
    let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.split('\0').map(str::to_owned).collect()
}

/// A program at work.
pub struct Running {
    pub served: Served,
    pub database: Database,
}

impl Running {
    pub fn talk(&self) -> &Talk {
        &self.served.talk
    }

    /// Asks it to end and waits until it has.
    pub async fn stop(self) {
        self.served.signal(Signal::SIGTERM);
        let (status, said) = self.served.ended().await;
        assert!(status.success(), "the program ended with {status}: {said:#?}");
    }

    pub async fn session(&self, repository: &Path) -> SessionView {
        let new = NewSession { path: Some(repository.display().to_string()), ..NewSession::default() };
        self.talk().post("/api/sessions", &new, StatusCode::CREATED).await
    }
}

/// A repository of exactly so many files.
pub fn repository(files: usize) -> Repos {
    /// What every repository of the tests begins with.
    const BEGUN_WITH: usize = 3;
    Repos::with_files(files - BEGUN_WITH)
}

/// Plain SQL, as any client of the queue has it.
pub struct Database {
    sql: Client,
    insert: Statement,
    ended: Statement,
    /// Something was committed that readers of sessions want to know of.
    news: mpsc::UnboundedReceiver<()>,
}

/// A task that was followed from the commit of its INSERT until its final row was read.
pub struct Turn {
    pub task: Uuid,
    pub inserted: Instant,
    pub ended: Instant,
}

impl Database {
    /// Through the socket of the embedded server, whose folder is the fifth line of its pid file.
    async fn connect(data: &Path) -> Self {
        let pid_file = fs::read_to_string(data.join("postgres/postmaster.pid")).unwrap();
        let socket = pid_file.lines().nth(4).expect("the file names the socket's folder");
        let mut config = tokio_postgres::Config::new();
        config.host_path(socket).user("agentpool").dbname("agentpool");
        let (sql, mut connection) = config.connect(NoTls).await.unwrap();
        // A notification a commit of the engine, and each turn of the benchmark takes all of them.
        let (tell, news) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            let mut messages = stream::poll_fn(move |context| connection.poll_message(context));
            while let Some(Ok(message)) = messages.next().await {
                if let AsyncMessage::Notification(_) = message {
                    let _ = tell.send(());
                }
            }
        });
        sql.batch_execute("LISTEN session_events").await.unwrap();
        let insert =
            "INSERT INTO agentpool.tasks (session_id, agent, prompt) VALUES ($1, $2, $3) RETURNING id";
        let ended = "SELECT status FROM agentpool.tasks WHERE id = $1 AND finished_at IS NOT NULL";
        let (insert, ended) = (sql.prepare(insert).await.unwrap(), sql.prepare(ended).await.unwrap());
        Self { sql, insert, ended, news }
    }

    pub fn sql(&self) -> &Client {
        &self.sql
    }

    /// Inserts a task; says when the commit was confirmed.
    pub async fn insert(&self, session: Uuid, prompt: &str) -> (Uuid, Instant) {
        let row = self.sql.query_one(&self.insert, &[&session, &AGENT, &prompt]).await.unwrap();
        (row.get(0), Instant::now())
    }

    /// One turn, alone on the node. Panics unless it completes.
    pub async fn turn(&mut self, session: Uuid, prompt: &str) -> Turn {
        while self.news.try_recv().is_ok() {}
        let (task, inserted) = self.insert(session, prompt).await;
        let ended = self.wait(task).await;
        Turn { task, inserted, ended }
    }

    /// When the final row of a task was read.
    pub async fn wait(&mut self, task: Uuid) -> Instant {
        let waiting = async {
            loop {
                if let Some(row) = self.sql.query_opt(&self.ended, &[&task]).await.unwrap() {
                    let status: String = row.get(0);
                    assert_eq!(status, "completed", "task {task}");
                    return Instant::now();
                }
                self.news.recv().await.expect("the database is there");
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.expect("the turn ends in time")
    }
}
