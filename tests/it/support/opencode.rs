//! The real opencode with a scripted model: installed once under `target/`, run in a home of its own.

use agentpool::backend::opencode::{Home, OpencodeBackend, OpencodeConfig, OpencodePermission, Patience};
use agentpool::backend::{AgentBackend, AgentSessionHandle, BackendError, EnsureSession, Prompt, TurnIo};
use agentpool::domain::agent::AgentName;
use agentpool::domain::ids::{Fence, SessionId, TaskId};
use agentpool::domain::permission::PermissionAnswer;
use agentpool::domain::session::SessionKey;
use agentpool::domain::task::TaskSettings;
use agentpool::domain::turn::{Stop, TurnEnd, TurnEvent, TurnRef};
use agentpool::install::{Package, Quiet, install};
use agentpool::process::{Limits, Shims};
use agentpool::scripted_model::ScriptedModel;
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::{Semaphore, SemaphorePermit, mpsc, watch};
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::shims::marked_shims;

/// The pinned opencode, installed once under `target/`, by whoever comes first.
pub async fn opencode_program() -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/agents");
    fs::create_dir_all(&folder).unwrap();
    install(Package::Opencode, &folder, &Quiet)
        .await
        .expect("the tests need node and npm on this machine")
        .program
}

/// opencode's configuration for a scripted model at this address.
pub fn model_config(base_url: &str) -> String {
    let model = json!({
        "model": "local/echo", "small_model": "local/echo",
        "provider": {"local": {
            "npm": "@ai-sdk/openai-compatible", "name": "Local",
            "options": {"baseURL": base_url, "apiKey": "x"},
            "models": {"echo": {"name": "Echo"}, "other": {"name": "Other"}}}}
    });
    model.to_string()
}

/// A backend with its model, home and worktree.
pub struct Stage {
    pub backend: Arc<OpencodeBackend>,
    pub model: ScriptedModel,
    pub shims: Shims,
    pub mark: String,
    pub folder: TempDir,
    config: OpencodeConfig,
    _seat: SemaphorePermit<'static>,
}

/// Servers at once: each takes 700 MB.
static SEATS: Semaphore = Semaphore::const_new(2);

/// What one turn said and how it ended.
#[derive(Debug)]
pub struct Told {
    pub events: Vec<TurnEvent>,
    pub end: Result<TurnEnd, BackendError>,
}

impl Told {
    pub fn text(&self) -> String {
        text(&self.events)
    }
}

/// The answer that events make.
pub fn text(events: &[TurnEvent]) -> String {
    let texts = events.iter().map(|event| if let TurnEvent::Text(text) = event { text.as_str() } else { "" });
    texts.collect()
}

/// A turn at work: its channels, and its end to come.
pub struct Running {
    pub events: mpsc::Receiver<TurnEvent>,
    pub stop: watch::Sender<Option<Stop>>,
    pub answers: mpsc::Sender<PermissionAnswer>,
    pub task: JoinHandle<Result<TurnEnd, BackendError>>,
}

impl Running {
    /// Waits for an event that `wanted` picks, keeping what came before it in `seen`.
    pub async fn wait_for<T>(
        &mut self,
        seen: &mut Vec<TurnEvent>,
        wanted: impl Fn(&TurnEvent) -> Option<T>,
    ) -> T {
        loop {
            let event = tokio::time::timeout(Duration::from_secs(60), self.events.recv()).await;
            let event = event.expect("an event within a minute");
            let event = event.unwrap_or_else(|| panic!("the turn ended first, after {seen:?}"));
            let found = wanted(&event);
            seen.push(event);
            if let Some(found) = found {
                return found;
            }
        }
    }

    /// Hears the turn to its end.
    pub async fn finish(mut self, mut events: Vec<TurnEvent>) -> Told {
        while let Some(event) = self.events.recv().await {
            events.push(event);
        }
        Told { events, end: self.task.await.unwrap() }
    }
}

impl Stage {
    pub async fn new(permission: OpencodePermission) -> Self {
        let program = opencode_program().await;
        Self::with_program(permission, program).await
    }

    pub async fn with_program(permission: OpencodePermission, program: PathBuf) -> Self {
        Self::tuned(permission, program, |_| ()).await
    }

    /// With a configuration that the test changes.
    pub async fn tuned(
        permission: OpencodePermission,
        program: PathBuf,
        tune: impl FnOnce(&mut OpencodeConfig),
    ) -> Self {
        let _seat = SEATS.acquire().await.unwrap();
        let model = ScriptedModel::start(0).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().join("home");
        fs::create_dir_all(&home).unwrap();
        let mut config = OpencodeConfig {
            program,
            env: vec![
                ("OPENCODE_CONFIG_CONTENT".into(), model_config(&model.base_url())),
                ("OPENCODE_DISABLE_MODELS_FETCH".into(), "1".into()),
            ],
            home: Home::Isolated(home),
            default_model: None,
            cwd: folder.path().to_owned(),
            grace: Duration::from_secs(2),
            start_deadline: Duration::from_secs(60),
            permission,
            memory_soft_bytes: u64::MAX,
            patience: Patience::default(),
            limits: Limits::default(),
        };
        tune(&mut config);
        let (shims, mark) = marked_shims();
        let backend = Arc::new(OpencodeBackend::new(config.clone(), shims.clone()));
        Self { backend, model, shims, mark, folder, config, _seat }
    }

    /// One more on the same home, after the first was disposed of.
    pub fn another_backend(&self) -> Arc<OpencodeBackend> {
        Arc::new(OpencodeBackend::new(self.config.clone(), self.shims.clone()))
    }

    /// A git worktree of that name.
    pub fn worktree(&self, name: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::create_dir_all(&path).unwrap();
        let init = Command::new("git").args(["init", "-q"]).current_dir(&path).status().unwrap();
        assert!(init.success());
        path.canonicalize().unwrap()
    }

    pub fn key(&self) -> SessionKey {
        SessionKey { session: SessionId(Uuid::now_v7()), agent: AgentName::new("opencode").unwrap() }
    }

    /// A conversation in that worktree.
    pub async fn open(&self, worktree: &Path) -> AgentSessionHandle {
        self.reopen(worktree, None, Vec::new()).await.unwrap()
    }

    pub async fn reopen(
        &self,
        worktree: &Path,
        resume: Option<&str>,
        interrupted: Vec<TurnRef>,
    ) -> Result<AgentSessionHandle, BackendError> {
        let opts = EnsureSession {
            worktree: worktree.to_owned(),
            title: "test".into(),
            resume: resume.map(str::to_owned),
            interrupted,
        };
        self.backend.ensure_session(&self.key(), &opts).await
    }

    /// Begins a turn.
    pub fn begin(&self, handle: &AgentSessionHandle, prompt: Prompt) -> Running {
        let (events_in, events) = mpsc::channel(64);
        let (stop, stop_out) = watch::channel(None);
        let (answers, answers_out) = mpsc::channel(4);
        let io = TurnIo { events: events_in, stop: stop_out, answers: answers_out };
        let (backend, handle) = (Arc::clone(&self.backend), handle.clone());
        let task = tokio::spawn(async move { backend.prompt(&handle, &prompt, io).await });
        Running { events, stop, answers, task }
    }

    /// A whole turn, with nobody interfering.
    pub async fn turn(&self, handle: &AgentSessionHandle, text: &str) -> Told {
        self.begin(handle, prompt(text)).finish(Vec::new()).await
    }
}

/// A prompt of a task of its own, without wishes.
pub fn prompt(text: &str) -> Prompt {
    let turn = TurnRef { task: TaskId(Uuid::now_v7()), fence: Fence(1) };
    Prompt { turn, text: text.to_owned(), settings: TaskSettings::default() }
}
