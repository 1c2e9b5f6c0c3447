//! The opencode_server backend: one opencode HTTP server serves every session of an agent in a workspace.
//! opencode's types stop here; nothing of it is stored, and a person is asked through the turn's own channels only.
//!
//! `life` says when a server is started and when a new one is tried, after failures and for its `size`;
//! `server` is one of them, `pulse` says whether it answers, `in_use` that somebody works with it; `stream` hands its events
//! to turns; `turn` follows one turn, `look` reads what the stream did not tell, `known` what need not be asked, `stopping` stops it, `ending` names its end; `translate` is the turn as pure
//! state; `interrupted` finds a turn that was cut off; `client`, `event` and `wire` are opencode's words.

mod choices;
mod client;
mod ending;
mod environment;
mod event;
mod failure;
mod ids;
mod in_use;
mod interrupted;
mod known;
mod life;
mod look;
mod parts;
mod patience;
mod pulse;
#[cfg(test)]
mod recorded;
mod server;
mod size;
mod stopping;
mod stream;
mod translate;
mod turn;
mod wire;

pub use super::Home;
use super::{
    AgentBackend, AgentSessionHandle, BackendError, BackendHealth, EnsureSession, Interrupted, Occasion,
    Prompt, SessionOrigin, TurnIo,
};
use crate::domain::agent::BackendKind;
use crate::domain::catalogue::Catalogue;
use crate::domain::failure::FailureReason;
use crate::domain::session::SessionKey;
use crate::domain::turn::{TurnEnd, TurnRef};
use crate::process::{Limits, Shims};
use async_trait::async_trait;
use client::Choices;
use interrupted::Found;
use life::Life;
pub use patience::Patience;
use server::directory_of;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use stopping::{Place, SETTLE_DEADLINE, settle};

/// How an opencode server is run.
#[derive(Clone, Debug)]
pub struct OpencodeConfig {
    /// The real program, not the npm wrapper (which leaves a grandchild).
    pub program: PathBuf,
    /// Added to the allow-listed environment, e.g. `OPENCODE_CONFIG_CONTENT`.
    pub env: Vec<(String, String)>,
    /// Where opencode keeps logins, configuration and conversations.
    pub home: Home,
    /// `provider/model` for tasks that name none; else what opencode's own configuration says.
    pub default_model: Option<String>,
    /// Where the server starts: absolute, and no worktree (those come with each call).
    pub cwd: PathBuf,
    /// Between TERM and KILL.
    pub grace: Duration,
    /// From spawn to ready; 60 s is what a loaded machine was seen to need, with room.
    pub start_deadline: Duration,
    /// What the agent may do unasked.
    pub permission: OpencodePermission,
    /// Resident memory of the server and all below it, in bytes, above which it is ended between turns and started anew.
    pub memory_soft_bytes: u64,
    /// How long is waited for what.
    pub patience: Patience,
    /// What the server may use with all that it starts.
    pub limits: Limits,
}

/// What opencode is told about edit, bash, webfetch, external_directory and doom_loop, by `OPENCODE_PERMISSION`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpencodePermission {
    /// Each one is asked and comes out as `TurnEvent::Permission`.
    Ask,
    /// Each one is allowed by opencode itself. It may still ask for others (`.env` files, questions).
    Allow,
}

/// One opencode server for all sessions of an agent in a workspace; it starts with the first of them.
pub struct OpencodeBackend {
    life: Arc<Life>,
}

impl OpencodeBackend {
    /// A backend that has started nothing yet. Its server runs under one of `shims`.
    pub fn new(config: OpencodeConfig, shims: Shims) -> Self {
        Self { life: Life::new(config, shims) }
    }

    async fn choose(&self, place: &Place, prompt: &Prompt) -> Result<(Choices, Vec<String>), BackendError> {
        let catalogue = place.server.catalogue(&place.directory).await?;
        let default_model = self.life.config().default_model.as_deref();
        catalogue
            .choose(&prompt.settings, default_model)
            .map_err(|error| BackendError::turn(FailureReason::ModelUnknown, error.to_string()))
    }
}

#[async_trait]
impl AgentBackend for OpencodeBackend {
    async fn ensure_session(
        &self,
        key: &SessionKey,
        opts: &EnsureSession,
    ) -> Result<AgentSessionHandle, BackendError> {
        let directory = directory_of(&opts.worktree)?;
        let server = self.life.server().await?;
        let found = match &opts.resume {
            None => None,
            // Asking costs a warm turn more than anything else before its prompt.
            Some(id) if opts.interrupted.is_empty() && server.known.is_quiet(id) => Some(id.clone()),
            Some(id) => match server.unless_lost(server.client.session(&directory, id)).await? {
                Ok(session) if session.time.archived.is_some() => None,
                Ok(session) => Some(session.id),
                Err(error) if error.is_not_found() => None,
                Err(error) => return Err(error.into()),
            },
        };
        let (session, origin) = match (found, &opts.resume) {
            (Some(id), _) if server.known.was_opened(&id) => (id, SessionOrigin::Reused),
            (Some(id), _) => (id, SessionOrigin::Resumed),
            (None, resume) => {
                let made =
                    server.unless_lost(server.client.create_session(&directory, &opts.title)).await??;
                server.known.was_opened(&made.id);
                let new =
                    if resume.is_some() { SessionOrigin::NewInsteadOfResumed } else { SessionOrigin::New };
                (made.id, new)
            }
        };
        let mut place = Place { server, directory, session };
        let was_there = matches!(origin, SessionOrigin::Reused | SessionOrigin::Resumed);
        let interrupted = match was_there && !opts.interrupted.is_empty() {
            true => cut_back(&mut place, &opts.interrupted).await?,
            false => Interrupted::None,
        };
        Ok(AgentSessionHandle {
            key: key.clone(),
            backend: BackendKind::OpencodeServer,
            agent_session_id: place.session,
            server_port: Some(place.server.port),
            worktree: opts.worktree.clone(),
            origin,
            interrupted,
        })
    }

    /// The instance of a directory is made by the first call that names it, and takes longer than a warm turn; so do its providers
    /// and its list of files, which opencode waits for within the first prompt (measured: a first turn of 1.1 s takes 0.13 s
    /// when both are there). Asked is what makes them.
    async fn prewarm(&self, worktree: &Path, _: Occasion) {
        let (Some(server), Ok(directory)) = (self.life.current(), directory_of(worktree)) else { return };
        let files = async { Ok(server.unless_lost(server.client.list_files(&directory)).await??) };
        if let Err(error) = futures::try_join!(server.catalogue(&directory), files) {
            tracing::debug!(directory, %error, "the instance was not made ahead");
        }
    }

    async fn prompt(
        &self,
        handle: &AgentSessionHandle,
        prompt: &Prompt,
        io: TurnIo,
    ) -> Result<TurnEnd, BackendError> {
        let directory = directory_of(&handle.worktree)?;
        let server = self.life.server().await?;
        let place = Place { server, directory, session: handle.agent_session_id.clone() };
        let (choices, notices) = self.choose(&place, prompt).await?;
        turn::run(place, prompt, &choices, notices, &self.life.config().patience, io).await
    }

    async fn release(&self, handle: &AgentSessionHandle) -> Result<(), BackendError> {
        let Some(server) = self.life.current() else { return Ok(()) };
        if server.is_running(&handle.agent_session_id) {
            let message = format!("a turn runs in {}: it is not released", handle.agent_session_id);
            return Err(BackendError::turn(FailureReason::Internal, message));
        }
        let directory = directory_of(&handle.worktree)?;
        server.known.forget(&handle.agent_session_id);
        Ok(server.unless_lost(server.client.dispose_instance(&directory)).await??)
    }

    async fn close_session(&self, handle: &AgentSessionHandle) -> Result<(), BackendError> {
        let Some(server) = self.life.current() else { return Ok(()) };
        let directory = directory_of(&handle.worktree)?;
        let session = handle.agent_session_id.clone();
        let place = Place { server: server.clone(), directory, session };
        settle(&place, SETTLE_DEADLINE).await?;
        // Archived, not deleted: what an agent said stays readable in opencode.
        let archived = server.client.archive(&place.directory, &place.session, turn::now_ms());
        match server.unless_lost(archived).await? {
            Err(error) if !error.is_not_found() => return Err(error.into()),
            Ok(()) | Err(_) => {}
        }
        self.release(handle).await
    }

    async fn dispose(&self, grace: Duration) {
        self.life.dispose(grace).await;
    }

    async fn catalogue(&self) -> Result<Catalogue, BackendError> {
        let server = self.life.server().await?;
        let catalogue = server.catalogue(&directory_of(&self.life.config().cwd)?).await?;
        Ok(catalogue.offered(&server.version, self.life.config().default_model.as_deref()))
    }

    fn health(&self) -> BackendHealth {
        self.life.health()
    }
}

/// Finds out what became of interrupted turns. A turn that is not whole is cut off by a fork that ends before it:
/// the place is another conversation then.
async fn cut_back(place: &mut Place, turns: &[TurnRef]) -> Result<Interrupted, BackendError> {
    settle(place, SETTLE_DEADLINE).await?;
    let Place { server, directory, session } = place.clone();
    let messages = server.unless_lost(server.client.messages(&directory, &session)).await??;
    match interrupted::find(&session, &messages, turns) {
        // The prompts never came to this conversation: it ends before them already.
        Found::Nothing => Ok(Interrupted::CutBack),
        Found::Completed { output, usage, stop_reason } => {
            Ok(Interrupted::Completed { output, usage, stop_reason })
        }
        Found::CutBefore { message } => {
            match server.unless_lost(server.client.fork(&directory, &session, &message)).await? {
                Ok(fork) => {
                    server.known.was_opened(&fork.id);
                    place.session = fork.id;
                    Ok(Interrupted::CutBack)
                }
                Err(error) => {
                    tracing::warn!(%session, %error, "an interrupted turn could not be cut off");
                    Ok(Interrupted::StillThere)
                }
            }
        }
    }
}
