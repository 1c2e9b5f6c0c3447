//! The acp_warm backend: long-lived agent processes that speak the Agent Client Protocol. The protocol's types stop here; nothing
//! of it is stored, and a person is asked through the turn's own channels only.
//!
//! `life` says which processes there are (own, shared, spare), `roster` what is open in them; `start` brings one up, `process` is one, `lines` its wire, `router` whose its
//! words are; `open` makes a conversation to prompt, `conversation` is one, `offers` what the agent offers in it and `settings`
//! how that is chosen; `turn` follows one turn, `translate` is it as pure state, `permission` its questions, `ending` names its
//! end; `client_side` and `terminals` are what the agent may ask of us.

mod ahead;
mod catalogue;
mod client_side;
mod conversation;
mod ending;
mod life;
mod lines;
mod offers;
mod open;
mod permission;
mod process;
mod roster;
mod router;
mod settings;
mod start;
mod terminals;
mod translate;
mod turn;
mod unclaimed;

use super::{
    AgentBackend, AgentSessionHandle, BackendError, BackendHealth, EnsureSession, Home, Interrupted,
    Occasion, Prompt, SessionOrigin, TurnIo,
};
use crate::domain::agent::BackendKind;
use crate::domain::catalogue::Catalogue;
use crate::domain::failure::FailureReason;
use crate::domain::mcp::McpServer;
use crate::domain::session::SessionKey;
use crate::domain::turn::TurnEnd;
use crate::process::{Limits, Shims};
use async_trait::async_trait;
use life::Life;
use offers::Selection;
use serde_json::Value;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How an agent that speaks ACP is run.
#[derive(Clone, Debug)]
pub struct AcpConfig {
    /// The agent's name, for logs.
    pub name: String,
    /// The real program, never a launcher that leaves a grandchild.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Added to the allow-listed environment.
    pub env: Vec<(String, String)>,
    /// Where it keeps logins, configuration and conversations.
    pub home: Home,
    /// Where processes start: absolute, and no worktree (those come with each conversation).
    pub cwd: PathBuf,
    /// Between TERM and KILL.
    pub grace: Duration,
    /// From spawn to the answer to `initialize`.
    pub start_deadline: Duration,
    /// Which conversations live in one process.
    pub sharing: Sharing,
    /// Initialised processes that are kept ready.
    pub spare: usize,
    /// MCP servers that every conversation gets.
    pub mcp_servers: Vec<McpServer>,
    /// `_meta` of every conversation: what an agent wants to know there.
    pub session_meta: Option<Value>,
    /// Whether the agent is offered our file and terminal tools.
    pub client_tools: bool,
    /// How long is waited for what.
    pub patience: Patience,
    /// What each of its processes may use with all that it starts, and each command in a terminal of ours.
    pub limits: Limits,
}

/// Which conversations live in one process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sharing {
    /// One each.
    #[default]
    Own,
    /// All.
    Shared,
}

/// How long is waited for what. The defaults are for agents as they are; tests come with shorter ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patience {
    /// For an agent to read what it is told. A pipe takes 64 KiB before it blocks.
    pub write: Duration,
    /// Between two requests to cancel: the first can be lost right after a prompt.
    pub cancel_again: Duration,
    /// From the first request to cancel to the end of the process. Agents were seen to answer within 256 ms.
    pub cancel: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            write: Duration::from_secs(30),
            cancel_again: Duration::from_millis(500),
            cancel: Duration::from_secs(10),
        }
    }
}

/// Warm processes of one agent.
pub struct AcpBackend {
    life: Arc<Life>,
    catalogue: catalogue::Known,
}

impl AcpBackend {
    /// A backend that has started nothing yet but the spares that it was asked for. Its processes run under `shims`.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn new(config: AcpConfig, shims: Shims) -> Self {
        Self { life: Life::new(config, shims), catalogue: catalogue::Known::default() }
    }
}

#[async_trait]
impl AgentBackend for AcpBackend {
    async fn ensure_session(
        &self,
        key: &SessionKey,
        opts: &EnsureSession,
    ) -> Result<AgentSessionHandle, BackendError> {
        let (live, origin) = open::open(&self.life, opts).await?;
        let was_there = matches!(origin, SessionOrigin::Reused | SessionOrigin::Resumed);
        // The protocol names no turn and cuts nothing back: whoever asks again must say that it was interrupted.
        let interrupted = match was_there && !opts.interrupted.is_empty() {
            true => Interrupted::StillThere,
            false => Interrupted::None,
        };
        Ok(AgentSessionHandle {
            key: key.clone(),
            backend: BackendKind::AcpWarm,
            agent_session_id: live.conversation.id.clone(),
            server_port: None,
            worktree: opts.worktree.clone(),
            origin,
            interrupted,
        })
    }

    async fn prewarm(&self, worktree: &Path, occasion: Occasion) {
        // A turn that begins opens its conversation itself, at the same time.
        if occasion == Occasion::SessionMade {
            ahead::open_ahead(&self.life, worktree).await;
        }
    }

    async fn prompt(
        &self,
        handle: &AgentSessionHandle,
        prompt: &Prompt,
        io: TurnIo,
    ) -> Result<TurnEnd, BackendError> {
        let live = self.life.live(&handle.agent_session_id);
        let live =
            live.ok_or_else(|| BackendError::Lost("its process ended before the prompt".to_owned()))?;
        turn::run(&self.life, live, prompt, io).await
    }

    async fn release(&self, handle: &AgentSessionHandle) -> Result<(), BackendError> {
        let id = &handle.agent_session_id;
        let Some(live) = self.life.live(id) else { return Ok(()) };
        if live.conversation.is_in_turn() {
            return Err(BackendError::turn(
                FailureReason::Internal,
                format!("a turn runs in {id}: it is not released"),
            ));
        }
        self.life.take(id);
        self.life.let_go(live).await;
        Ok(())
    }

    async fn close_session(&self, handle: &AgentSessionHandle) -> Result<(), BackendError> {
        let id = &handle.agent_session_id;
        self.life.close(id);
        if let Some(live) = self.life.take(id) {
            self.life.let_go(live).await;
        }
        Ok(())
    }

    fn held_by(&self, handle: &AgentSessionHandle) -> Vec<u32> {
        match (self.life.config().sharing, self.life.live(&handle.agent_session_id)) {
            (Sharing::Own, Some(live)) => live.process.roots(),
            (Sharing::Own, None) | (Sharing::Shared, _) => Vec::new(),
        }
    }

    async fn give_back_spares(&self) {
        self.life.give_back_ready().await;
    }

    fn allow_spares(&self) {
        self.life.allow_ready();
    }

    async fn dispose(&self, grace: Duration) {
        self.life.dispose(grace).await;
    }

    async fn catalogue(&self) -> Result<Catalogue, BackendError> {
        self.catalogue.get(&self.life).await
    }

    fn health(&self) -> BackendHealth {
        self.life.health()
    }
}
