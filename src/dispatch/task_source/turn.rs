//! What one turn reads before it begins, and what it leaves.

use crate::domain::agent::{AgentName, BackendKind, PermissionRule};
use crate::domain::change::FileChange;
use crate::domain::ids::{Fence, TaskId};
use crate::domain::task::Lease;
use crate::domain::usage::Usage;
use std::path::PathBuf;

/// What is known before a turn.
#[derive(Clone, Debug)]
pub struct TurnFacts {
    /// For the agent's own list.
    pub title: String,
    /// The session takes work.
    pub open: bool,
    /// The session's own answer to what agents ask; without one the agent's holds.
    pub permission: Option<PermissionRule>,
    /// Where the repository is.
    pub project: ProjectPlace,
    /// The conversation to go on with, when there is one on this node that is not poisoned.
    pub resume: Option<StoredConversation>,
    /// There was a conversation that cannot be gone on with (poisoned, or on another node).
    pub conversation_lost: bool,
    /// A worktree was made on this node.
    pub has_worktree: bool,
    /// Checkpoint before the task's first turn on this node.
    pub checkpoint_before: Option<String>,
    /// Newest checkpoint of the session on this node, interrupted trees aside.
    pub last_checkpoint: Option<LastCheckpoint>,
    /// Fences of the task's earlier turns, newest first.
    pub earlier_fences: Vec<Fence>,
}

/// A conversation as its row has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredConversation {
    /// The agent's id.
    pub id: String,
    /// The kind of backend that gave it; none of a kind that this version does not know.
    pub backend: Option<BackendKind>,
    /// Hash of the configuration that its last turn was under.
    pub config_hash: Option<String>,
}

/// The checkpoint that the next one is compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastCheckpoint {
    /// Commit.
    pub commit: String,
    /// It was taken before a turn of this task by this agent, and none after it: what changed since is that turn's doing.
    pub unfinished: Option<(TaskId, AgentName)>,
}

/// Changes that were found before a turn; by default none.
#[derive(Clone, Debug, Default)]
pub struct FoundChanges {
    /// The turn that was cut off before its changes were stored; `None`: a person made them.
    pub by: Option<(TaskId, AgentName)>,
    /// What changed.
    pub changes: Vec<FileChange>,
}

/// Where a project's repository is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProjectPlace {
    /// On this node.
    Path(PathBuf),
    /// Anywhere.
    Url(String),
}

/// Where a worktree is.
#[derive(Clone, Debug)]
pub struct WorktreeFacts {
    /// Folder.
    pub path: PathBuf,
    /// Base commit.
    pub base_commit: String,
    /// Branch.
    pub branch: String,
}

/// What a turn that was cut off left.
#[derive(Clone, Debug)]
pub struct InterruptedTree {
    /// Its checkpoint.
    pub commit: String,
    /// Whose turn.
    pub agent: AgentName,
    /// What it had changed.
    pub changes: Vec<FileChange>,
}

/// A turn begins.
#[derive(Clone, Debug)]
pub struct TurnBegin {
    /// The right to write.
    pub lease: Lease,
    /// Checkpoint before it.
    pub checkpoint: String,
    /// What had changed since the one before that.
    pub found: FoundChanges,
    /// Who.
    pub agent: AgentName,
    /// How.
    pub backend: BackendKind,
    /// Conversation.
    pub agent_session_id: String,
    /// Port of a shared server.
    pub server_port: Option<u16>,
    /// Hash of the agent's configuration.
    pub config_hash: String,
}

/// What a turn leaves behind.
#[derive(Clone, Debug)]
pub struct TurnResult {
    /// The right to write.
    pub lease: Lease,
    /// Who.
    pub agent: AgentName,
    /// The answer.
    pub output: Option<String>,
    /// Checkpoint after it.
    pub checkpoint: Option<String>,
    /// What changed.
    pub changes: Vec<FileChange>,
    /// Model as asked, and what it cost.
    pub usage: Option<(String, Usage)>,
}
