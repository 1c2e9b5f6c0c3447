//! The five operations of an agent backend, and what travels through them.
//! A backend speaks with one kind of agent and with nobody else: it never sees the store, the pool or HTTP.

pub mod acp;
mod circuit;
mod confined;
pub mod opencode;
mod provider_words;
pub mod scripted;

use crate::domain::agent::BackendKind;
use crate::domain::catalogue::Catalogue;
use crate::domain::failure::FailureReason;
use crate::domain::permission::PermissionAnswer;
use crate::domain::session::SessionKey;
use crate::domain::task::TaskSettings;
use crate::domain::turn::{Stop, TurnEnd, TurnEvent, TurnRef};
use crate::domain::usage::Usage;
use crate::process::Environment;
use async_trait::async_trait;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// One coding agent on one node for one workspace. Shared by all sessions of that agent.
#[async_trait]
pub trait AgentBackend: Send + Sync {
    /// Lazy: starts what is needed for this key; resumes `opts.resume` if it can, and says in the handle which it did.
    ///
    /// # Errors
    /// When the agent cannot be started, is not supported, or refuses a new conversation.
    ///
    /// # Cancel safety
    /// May be dropped at any point: what was started stays owned by the backend.
    async fn ensure_session(
        &self,
        key: &SessionKey,
        opts: &EnsureSession,
    ) -> Result<AgentSessionHandle, BackendError>;

    /// A worktree was made, and its first turn is on its way or will come: what makes that turn faster may be begun. Nothing is
    /// started that does not run, nothing depends on it, and whoever calls it does not wait for it.
    ///
    /// # Cancel safety
    /// May be dropped at any point.
    async fn prewarm(&self, _worktree: &Path, _occasion: Occasion) {}

    /// One turn. `turn` carries events out (bounded: a slow store slows the agent), stops and permission answers in.
    /// Returns when the agent's own end of *this* turn was seen.
    ///
    /// # Errors
    /// When the turn failed; the variant says what the caller does differently.
    ///
    /// # Cancel safety
    /// Dropping the future detaches: the backend stops the turn by itself.
    async fn prompt(
        &self,
        handle: &AgentSessionHandle,
        prompt: &Prompt,
        turn: TurnIo,
    ) -> Result<TurnEnd, BackendError>;

    /// Gives back what a cold agent session does not need (process, instance); the conversation stays resumable.
    ///
    /// # Errors
    /// When the agent did not confirm; the caller logs it and goes on.
    async fn release(&self, handle: &AgentSessionHandle) -> Result<(), BackendError>;

    /// Ends the conversation; it will not be resumed.
    ///
    /// # Errors
    /// When the agent did not confirm; the caller logs it and goes on.
    async fn close_session(&self, handle: &AgentSessionHandle) -> Result<(), BackendError>;

    /// The root processes that this conversation alone holds, which [`AgentBackend::release`] would end. None where many share one.
    fn held_by(&self, _handle: &AgentSessionHandle) -> Vec<u32> {
        Vec::new()
    }

    /// Ends the processes that no conversation has yet, and keeps none ready until [`AgentBackend::allow_spares`]. Returns when
    /// they are gone.
    async fn give_back_spares(&self) {}

    /// As many processes are kept ready as was configured, as from the start. Returns at once.
    fn allow_spares(&self) {}

    /// Ends every process of the backend; returns when none is left.
    async fn dispose(&self, grace: Duration);

    /// What the agent offers. May start it to ask.
    ///
    /// # Errors
    /// When it cannot be started, or this kind of agent does not tell.
    ///
    /// # Cancel safety
    /// May be dropped at any point.
    async fn catalogue(&self) -> Result<Catalogue, BackendError> {
        Err(BackendError::Incompatible("it does not tell what it offers".to_owned()))
    }

    /// What the health page says, from memory alone.
    fn health(&self) -> BackendHealth;
}

/// Why something is made ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occasion {
    /// A session was made whose first turn this agent is expected to run.
    SessionMade,
    /// That turn begins, and opens its conversation in a moment.
    TurnBegins,
}

/// What [`AgentBackend::ensure_session`] needs.
#[derive(Clone, Debug)]
pub struct EnsureSession {
    /// The session's worktree: absolute, canonical.
    pub worktree: PathBuf,
    /// A title for the agent's own list of conversations.
    pub title: String,
    /// The agent's id of the conversation to go on with.
    pub resume: Option<String>,
    /// Turns of the task that is about to run again and that were interrupted, newest first. The backend asks the
    /// agent's own store whether one of them in fact completed ([`Interrupted::Completed`]); else it cuts the
    /// conversation back to before it where the agent can.
    pub interrupted: Vec<TurnRef>,
}

/// A conversation that can be prompted.
#[derive(Clone, Debug, PartialEq)]
pub struct AgentSessionHandle {
    /// Whose.
    pub key: SessionKey,
    /// How it is reached.
    pub backend: BackendKind,
    /// The agent's own id: what `resume` takes.
    pub agent_session_id: String,
    /// Port of a shared server, for people who debug.
    pub server_port: Option<u16>,
    /// Where it works.
    pub worktree: PathBuf,
    /// How it came to be.
    pub origin: SessionOrigin,
    /// What the agent's store says of the interrupted turns.
    pub interrupted: Interrupted,
}

/// How a handle came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionOrigin {
    /// It was there and warm.
    Reused,
    /// The agent found the conversation again.
    Resumed,
    /// Begun anew, with nothing to resume.
    New,
    /// Begun anew although something was to be resumed: the transcript must be told again.
    NewInsteadOfResumed,
}

/// What became of turns that were cut off.
#[derive(Clone, Debug, PartialEq)]
pub enum Interrupted {
    /// There were none.
    None,
    /// One completed after all: it is finished from here, not run again.
    Completed {
        /// The whole answer.
        output: String,
        /// Sum over the turn.
        usage: Usage,
        /// The agent's own word.
        stop_reason: String,
    },
    /// The conversation ends before them now.
    CutBack,
    /// They are still in the conversation; the model sees them.
    StillThere,
}

/// What is asked of the agent.
#[derive(Clone, Debug)]
pub struct Prompt {
    /// Names the turn; ids that we give to the agent are made of it.
    pub turn: TurnRef,
    /// The text, transcript told again included.
    pub text: String,
    /// Model, mode and options; what the agent does not offer is dropped with a Notice.
    pub settings: TaskSettings,
}

/// The three channels of a running turn.
pub struct TurnIo {
    /// Events out. Full means: the store is slow, wait.
    pub events: mpsc::Sender<TurnEvent>,
    /// Stops in; `None` until one is asked. A closed channel means: stop by yourself.
    pub stop: watch::Receiver<Option<Stop>>,
    /// Answers in.
    pub answers: mpsc::Receiver<PermissionAnswer>,
}

/// Whose home the agent uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Home {
    /// The user's, so that logins work.
    Inherited,
    /// One of its own: `HOME` and the XDG folders lie in it.
    Isolated(PathBuf),
}

impl Home {
    /// The allow-listed part of our environment, with this home in it.
    fn environment(&self) -> Environment {
        let env = Environment::allow_listed();
        match self {
            Self::Inherited => env,
            Self::Isolated(home) => env
                .set("HOME", home)
                .set("XDG_CONFIG_HOME", home.join(".config"))
                .set("XDG_DATA_HOME", home.join(".local/share"))
                .set("XDG_STATE_HOME", home.join(".local/state"))
                .set("XDG_CACHE_HOME", home.join(".cache")),
        }
    }
}

/// What the health page says of a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendHealth {
    /// Where it stands.
    pub state: BackendState,
    /// A line for people: version, port, last error.
    pub detail: String,
    /// Process ids of its direct children (the agents, not their shims).
    pub pids: Vec<u32>,
    /// Those of them that wait for a conversation.
    pub spares: Vec<u32>,
    /// Processes that came up since it was made.
    pub starts: u64,
    /// Those of them that ended without being asked to.
    pub lost: u64,
}

/// Where a backend stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackendState {
    /// Nothing runs; it starts when asked.
    Cold,
    /// It is starting.
    Starting,
    /// It answers.
    Up,
    /// It failed and will be tried again when asked.
    Down,
    /// It failed so often that it is not tried before the circuit closes again.
    CircuitOpen,
}

/// What a caller does differently.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// The program could not be started; the slot is given up.
    #[error("the agent could not be started: {0}")]
    Spawn(String),
    /// Wrong version or shape; no use trying again.
    #[error("the agent is not supported: {0}")]
    Incompatible(String),
    /// The process or server is gone or does not answer; the slot is given up.
    #[error("the agent was lost: {0}")]
    Lost(String),
    /// The agent lives; the turn failed for the reason given.
    #[error("{message}")]
    Turn {
        /// Which.
        reason: FailureReason,
        /// The agent's own words.
        message: String,
        /// With [`FailureReason::RateLimited`]: until the provider takes requests again, where it said so.
        retry_after: Option<Duration>,
    },
}

impl BackendError {
    /// A turn that failed, with no word of when another try may do better.
    pub fn turn(reason: FailureReason, message: impl Into<String>) -> Self {
        Self::Turn { reason, message: message.into(), retry_after: None }
    }

    /// Until the provider takes requests again, where it said so.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Turn { reason: FailureReason::RateLimited, retry_after, .. } => *retry_after,
            Self::Turn { .. } | Self::Spawn(_) | Self::Incompatible(_) | Self::Lost(_) => None,
        }
    }

    /// The reason that goes to the task's row.
    pub fn reason(&self) -> FailureReason {
        match self {
            Self::Spawn(_) => FailureReason::SpawnFailed,
            Self::Incompatible(_) => FailureReason::AgentIncompatible,
            Self::Lost(_) => FailureReason::AgentCrashed,
            Self::Turn { reason, .. } => *reason,
        }
    }

    /// True when the conversation's backend is gone and the agent session counts as crashed.
    pub fn lost_the_backend(&self) -> bool {
        matches!(self, Self::Spawn(_) | Self::Lost(_))
    }
}
