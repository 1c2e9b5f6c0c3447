//! What the API needs of the process it runs in, as a small handle that the app fills in.

use crate::domain::agent::AgentName;
use crate::domain::catalogue::Catalogue;
use crate::domain::ids::NodeId;
use crate::store::StoreError;
use crate::store::sessions::{EndedConversation, SessionDetail};
use crate::wire::pool::{BackendView, PoolView};
use async_trait::async_trait;
use std::path::PathBuf;
use std::time::Duration;

/// This node, seen from its API.
#[async_trait]
pub trait LocalNode: Send + Sync + 'static {
    /// Which node.
    fn id(&self) -> NodeId;
    /// The pool, with what agents hold now.
    async fn pool(&self) -> PoolView;
    /// Backends by agent, from memory.
    fn backends(&self) -> Vec<BackendView>;
    /// `connecting`, `listening`, or why it is down.
    fn listener(&self) -> String;
    /// Since the event loop last turned.
    fn event_loop_age(&self) -> Duration;
    /// Turns that met a defect of ours, since the start.
    fn panics(&self) -> u64;
    /// A drain was asked.
    fn is_draining(&self) -> bool;
    /// What an agent of this node offers. May start it to ask.
    ///
    /// # Errors
    /// Why it cannot be told, in words.
    async fn catalogue(&self, agent: &AgentName) -> Result<Catalogue, String>;
    /// The canonical path of a repository that sessions can be made on.
    ///
    /// # Errors
    /// What to do about it, in words.
    async fn usable_repository(&self, path: &str) -> Result<PathBuf, String>;
    /// Makes the worktree of a session that no turn has run in, and lets agents of this node begin what they can before a prompt.
    ///
    /// # Errors
    /// When there is nothing to begin from, or git or the disk fails; the first turn tries again.
    async fn prepare(&self, session: &SessionDetail, agents: &[AgentName]) -> Result<(), LocalError>;
    /// What a removal of the session's worktree would take away that is nowhere else, in words; nothing when there is none.
    ///
    /// # Errors
    /// When git or the disk fails.
    async fn risk(&self, session: &SessionDetail) -> Result<Vec<String>, LocalError>;
    /// Tells the agents of a closed session that its conversations have ended, warm or not, and takes its worktree away,
    /// unless that would lose work. An agent that does not confirm is logged.
    ///
    /// # Errors
    /// When git or the disk fails; the session is closed all the same.
    async fn end_session(
        &self,
        session: &SessionDetail,
        ended: &[EndedConversation],
        force: bool,
    ) -> Result<CloseOutcome, LocalError>;
}

/// What became of a closed session's worktree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CloseOutcome {
    /// There was none.
    NoWorktree,
    /// Gone.
    Removed,
    /// Kept: why.
    Kept(Vec<String>),
}

/// Why this process did not do as told.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// The caller's request cannot be done as things are; in words.
    #[error("{0}")]
    Conflict(String),
    /// The same, with the paths that it is about.
    #[error("{words}")]
    Files {
        /// In words.
        words: String,
        /// Which files.
        paths: Vec<String>,
    },
    /// The database did not do its part.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It failed.
    #[error("{0}")]
    Failed(String),
}
