//! A backend without an agent: it plays what the prompt or a scenario says, in this process. Everything that is built on
//! [`AgentBackend`] can be tried with it at once and without chance; it honours the whole contract. It starts nothing.
//!
//! # Directives
//! One a line, played in order; the first one of a line takes the rest of it. Lines without one are ignored; a prompt
//! without any is echoed. What stands within `<conversation_so_far>…</conversation_so_far>`, a conversation told again, is
//! passed over: its directives were played when they were new.
//!
//! | directive | what happens |
//! |---|---|
//! | `SAY: text`, `THINK: text` | the text is said, or thought, word by word |
//! | `SLOW:n` | n tokens, one each 20 ms |
//! | `CLOCK:n` | n tokens, one each 40 ms, that say when they are said, in microseconds since 1970: for measuring |
//! | `TOOL:write PATH CONTENT` | the file is written, if it lies in the worktree |
//! | `ASK: title` | a permission is asked, for reading alone where the title begins with `read `; after a refusal no tool of the turn runs any more |
//! | `QUESTION: title` | a question is asked, its answer is said |
//! | `RECALL` | lists the earlier prompts of the conversation |
//! | `SETTINGS` | says which model and mode the turn runs with |
//! | `SLEEP:n` | n ms of silence |
//! | `FAIL:reason`, `FAIL:reasonxN` | fails for a [`crate::domain::failure::FailureReason`]; with N only the first N tries of the task; with `@SECS` behind it a rate limit says that it ends then |
//! | `CRASH`, `CRASHxN` | the agent is lost |
//! | `CRASH:late` | the agent is lost after it completed the turn: a recovery finds the answer |
//! | `HANG`, `HANG:deaf` | silence until stopped; a deaf one must be terminated |
//! | `REFUSE`, `EMPTY` | the agent declines; the agent ends the turn without a word |
//! | `SCENARIO:name` | the steps of a file, see [`Scenarios`] |

mod memory;
mod player;
mod scenario;
mod script;

pub use scenario::{ScenarioError, Scenarios};

use super::{
    AgentBackend, AgentSessionHandle, BackendError, BackendHealth, BackendState, EnsureSession, Interrupted,
    Prompt, SessionOrigin, TurnIo,
};
use crate::domain::agent::BackendKind;
use crate::domain::session::SessionKey;
use crate::domain::turn::{TurnEnd, TurnRef};
use async_trait::async_trait;
use memory::{Memory, MemoryError};
use player::{Ending, Player};
use std::path::PathBuf;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What a scripted backend needs.
#[derive(Clone, Debug)]
pub struct ScriptedConfig {
    /// What `SCENARIO:name` finds.
    pub scenarios: Scenarios,
    /// Where conversations are kept, so that they can be resumed after a restart; `None` keeps them in memory only.
    /// A folder serves one backend at a time.
    pub state: Option<PathBuf>,
}

/// The backend.
pub struct ScriptedBackend {
    scenarios: Scenarios,
    memory: Memory,
    turns: TaskTracker,
    disposed: CancellationToken,
}

impl ScriptedBackend {
    /// A backend with nothing open; reads and writes nothing yet.
    pub fn new(config: ScriptedConfig) -> Self {
        Self {
            scenarios: config.scenarios,
            memory: Memory::new(config.state),
            turns: TaskTracker::new(),
            disposed: CancellationToken::new(),
        }
    }

    /// Plays a turn that has been entered into the memory, and enters its end.
    async fn play(
        &self,
        handle: &AgentSessionHandle,
        prompt: &Prompt,
        turn: TurnIo,
        running: &memory::RunningTurn<'_>,
    ) -> Result<TurnEnd, BackendError> {
        let steps = script::steps(&prompt.text, &self.scenarios)?;
        let player = Player::new(turn, handle.worktree.clone(), running, &self.disposed);
        match player.play(steps, &prompt.settings).await {
            Ending::Completed(answer) => {
                let end = TurnEnd::Completed { stop_reason: answer.stop_reason.clone(), usage: answer.usage };
                running.complete(answer)?;
                Ok(end)
            }
            Ending::LostAfterwards(answer) => {
                running.complete(answer)?;
                self.memory.put_away(&handle.agent_session_id);
                Err(BackendError::Lost("scripted crash after the turn's end".into()))
            }
            Ending::Cancelled => Ok(TurnEnd::Cancelled),
            Ending::Refused => Ok(TurnEnd::Refused),
            Ending::Failed(error) => {
                if error.lost_the_backend() {
                    self.memory.put_away(&handle.agent_session_id);
                }
                Err(error)
            }
        }
    }
}

#[async_trait]
impl AgentBackend for ScriptedBackend {
    async fn ensure_session(
        &self,
        key: &SessionKey,
        opts: &EnsureSession,
    ) -> Result<AgentSessionHandle, BackendError> {
        if self.disposed.is_cancelled() {
            return Err(BackendError::Spawn("the backend was disposed of".into()));
        }
        let resumed = match &opts.resume {
            Some(id) => self.memory.resume(id, key)?.map(|origin| (id.clone(), origin)),
            None => None,
        };
        let (agent_session_id, origin) = match (resumed, &opts.resume) {
            (Some(found), _) => found,
            (None, Some(_)) => (self.memory.begin(key)?, SessionOrigin::NewInsteadOfResumed),
            (None, None) => (self.memory.begin(key)?, SessionOrigin::New),
        };
        let interrupted = match opts.interrupted.as_slice() {
            [] => Interrupted::None,
            turns => self.memory.settle_interrupted(&agent_session_id, turns)?,
        };
        Ok(AgentSessionHandle {
            key: key.clone(),
            backend: BackendKind::Scripted,
            agent_session_id,
            server_port: None,
            worktree: opts.worktree.clone(),
            origin,
            interrupted,
        })
    }

    async fn prompt(
        &self,
        handle: &AgentSessionHandle,
        prompt: &Prompt,
        turn: TurnIo,
    ) -> Result<TurnEnd, BackendError> {
        if self.disposed.is_cancelled() {
            return Err(BackendError::Lost("the backend was disposed of".into()));
        }
        // The turn lives in this future alone: to drop it is to stop it, and the guard makes room for the next one.
        let running = self.memory.enter(&handle.agent_session_id, prompt.turn, &prompt.text)?;
        self.turns.track_future(self.play(handle, prompt, turn, &running)).await
    }

    async fn release(&self, handle: &AgentSessionHandle) -> Result<(), BackendError> {
        self.memory.put_away(&handle.agent_session_id);
        Ok(())
    }

    async fn close_session(&self, handle: &AgentSessionHandle) -> Result<(), BackendError> {
        Ok(self.memory.forget(&handle.agent_session_id)?)
    }

    async fn dispose(&self, grace: Duration) {
        self.disposed.cancel();
        self.turns.close();
        if tokio::time::timeout(grace, self.turns.wait()).await.is_err() {
            tracing::warn!("turns of the scripted backend are still held by their callers after the grace");
        }
        self.memory.put_all_away();
    }

    fn health(&self) -> BackendHealth {
        let open = self.memory.open();
        let (state, detail) = if self.disposed.is_cancelled() {
            (BackendState::Down, "disposed of".to_owned())
        } else if open == 0 {
            (BackendState::Cold, "no conversation is open".to_owned())
        } else {
            (BackendState::Up, format!("{open} conversations open, {} turns running", self.turns.len()))
        };
        BackendHealth { state, detail, pids: Vec::new(), spares: Vec::new(), starts: 0, lost: 0 }
    }
}

impl From<MemoryError> for BackendError {
    fn from(error: MemoryError) -> Self {
        match error {
            MemoryError::NotOpen(_) => Self::Lost(error.to_string()),
            MemoryError::Busy { .. } => {
                Self::turn(crate::domain::failure::FailureReason::Internal, error.to_string())
            }
            MemoryError::Store { .. } | MemoryError::Read { .. } => Self::Spawn(error.to_string()),
        }
    }
}

/// The turn's name in stored conversations: `task/fence`.
fn turn_name(turn: TurnRef) -> String {
    format!("{}/{}", turn.task, turn.fence.0)
}
