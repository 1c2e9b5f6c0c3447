//! Agents that speak ACP behind the acp_warm backend: the fixture agent with its faults.

use super::conformance::{Subject, new_git_worktree};
use super::fixture_agent::fixture_agent;
use super::shims::marked_shims;
use agentpool::backend::AgentBackend;
use agentpool::backend::Home;
use agentpool::backend::acp::{AcpBackend, AcpConfig, Patience, Sharing};
use agentpool::process::{Limits, Shims};
use async_trait::async_trait;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;

/// The fixture agent in a home of its own.
pub struct FixtureAgent {
    pub folder: TempDir,
    pub shims: Shims,
    pub mark: String,
    pub config: AcpConfig,
    backend: Mutex<Arc<dyn AgentBackend>>,
}

/// How an agent of the tests is run, before anything special.
pub fn acp_config(name: &str, program: &Path, folder: &Path) -> AcpConfig {
    AcpConfig {
        name: name.to_owned(),
        program: program.to_owned(),
        args: Vec::new(),
        env: Vec::new(),
        home: Home::Isolated(folder.to_owned()),
        cwd: folder.to_owned(),
        grace: Duration::from_millis(500),
        start_deadline: Duration::from_secs(60),
        sharing: Sharing::Own,
        spare: 0,
        mcp_servers: Vec::new(),
        session_meta: None,
        client_tools: true,
        patience: Patience::default(),
        limits: Limits::default(),
    }
}

impl FixtureAgent {
    /// With these faults, see the agent's `FIXTURE`.
    pub fn new(faults: &str) -> Self {
        Self::with(faults, |_| {})
    }

    /// All conversations in one process.
    pub fn shared() -> Self {
        Self::with("", |config| config.sharing = Sharing::Shared)
    }

    /// With a configuration that differs.
    pub fn with(faults: &str, differ: impl FnOnce(&mut AcpConfig)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().canonicalize().unwrap();
        let mut config = acp_config("fixture", fixture_agent(), &home);
        config.env.push(("FIXTURE".to_owned(), faults.to_owned()));
        differ(&mut config);
        let (shims, mark) = marked_shims();
        let backend =
            Mutex::new(Arc::new(AcpBackend::new(config.clone(), shims.clone())) as Arc<dyn AgentBackend>);
        Self { folder, shims, mark, config, backend }
    }
}

#[async_trait]
impl Subject for FixtureAgent {
    fn backend(&self) -> Arc<dyn AgentBackend> {
        Arc::clone(&self.backend.lock().unwrap())
    }

    async fn restart(&self) {
        self.backend().dispose(Duration::from_secs(5)).await;
        *self.backend.lock().unwrap() = Arc::new(AcpBackend::new(self.config.clone(), self.shims.clone()));
    }

    fn worktree(&self) -> PathBuf {
        new_git_worktree(&self.folder.path().canonicalize().unwrap())
    }

    fn recovers(&self) -> bool {
        false
    }
}
