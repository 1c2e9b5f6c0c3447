//! Each backend keeps the same promises; they are written in `support/conformance.rs`.

use crate::support::acp::FixtureAgent;
use crate::support::conformance::{Subject, conformance, keeps_every_promise, new_git_worktree};
use crate::support::opencode::Stage;
use agentpool::backend::AgentBackend;
use agentpool::backend::opencode::OpencodePermission;
use agentpool::backend::scripted::{Scenarios, ScriptedBackend, ScriptedConfig};
use async_trait::async_trait;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

conformance!(scripted, Scripted::new(State::OnDisk));

conformance!(acp_fixture, FixtureAgent::new(""));

#[tokio::test]
async fn the_promises_hold_in_one_process_for_all_conversations_too() {
    keeps_every_promise(&FixtureAgent::shared()).await;
}

#[tokio::test]
async fn the_promises_hold_one_after_another_on_one_backend_too() {
    keeps_every_promise(&Scripted::new(State::OnDisk)).await;
}

#[tokio::test]
async fn a_scripted_backend_without_a_folder_resumes_within_its_life() {
    use crate::support::conformance as promise;
    let subject = Scripted::new(State::InMemory);
    promise::a_released_conversation_is_resumed(&subject).await;
    promise::a_closed_conversation_begins_anew(&subject).await;
    promise::an_unknown_conversation_begins_anew_and_says_so(&subject).await;
}

/// One test for all promises: a start is dear, and each server takes 700 MB.
#[tokio::test(flavor = "multi_thread")]
async fn the_real_opencode_keeps_every_promise() {
    keeps_every_promise(&Opencode {
        stage: Stage::new(OpencodePermission::Ask).await,
        backend: Mutex::default(),
    })
    .await;
}

/// The real server with a scripted model.
struct Opencode {
    stage: Stage,
    /// After a restart: the newer one.
    backend: Mutex<Option<Arc<dyn AgentBackend>>>,
}

#[async_trait]
impl Subject for Opencode {
    fn backend(&self) -> Arc<dyn AgentBackend> {
        let newer = self.backend.lock().unwrap().clone();
        newer.unwrap_or_else(|| self.stage.backend.clone())
    }

    async fn restart(&self) {
        self.backend().dispose(Duration::from_secs(5)).await;
        *self.backend.lock().unwrap() = Some(self.stage.another_backend());
    }

    fn worktree(&self) -> PathBuf {
        new_git_worktree(self.stage.folder.path())
    }
}

/// Where the scripted agent keeps its conversations.
enum State {
    OnDisk,
    InMemory,
}

struct Scripted {
    folder: tempfile::TempDir,
    config: ScriptedConfig,
    backend: Mutex<Arc<dyn AgentBackend>>,
}

impl Scripted {
    fn new(state: State) -> Self {
        let folder = tempfile::tempdir().expect("a scratch folder");
        let state = match state {
            State::OnDisk => Some(folder.path().join("state")),
            State::InMemory => None,
        };
        let config = ScriptedConfig { scenarios: Scenarios::built_in(), state };
        let backend = Mutex::new(Arc::new(ScriptedBackend::new(config.clone())) as Arc<dyn AgentBackend>);
        Self { folder, config, backend }
    }
}

#[async_trait]
impl Subject for Scripted {
    fn backend(&self) -> Arc<dyn AgentBackend> {
        Arc::clone(&self.backend.lock().unwrap())
    }

    async fn restart(&self) {
        self.backend().dispose(Duration::from_secs(5)).await;
        *self.backend.lock().unwrap() = Arc::new(ScriptedBackend::new(self.config.clone()));
    }

    fn worktree(&self) -> PathBuf {
        new_git_worktree(self.folder.path())
    }

    fn ask_and_write(&self, path: &str, content: &str) -> String {
        format!("ASK: write {path}\nTOOL:write {path} {content}")
    }
}
