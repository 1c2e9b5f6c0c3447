//! Rows of a turn, in and out.

use crate::domain::change::{DIFF_BYTES_MAX, FileChange};
use crate::domain::text;
use uuid::Uuid;

/// What is known of a session and one of its conversations.
#[derive(Clone, Debug)]
pub struct TurnFacts {
    /// Title of the session.
    pub title: String,
    /// `open` or `closed`.
    pub session_status: String,
    /// The session's own answer to what agents ask.
    pub permission_policy: Option<String>,
    /// Local path of the project.
    pub path: Option<String>,
    /// Clone URL of the project.
    pub url: Option<String>,
    /// Agent's id of the conversation.
    pub agent_session_id: Option<String>,
    /// State of the conversation.
    pub agent_session_status: Option<String>,
    /// Kind of the backend that the conversation was by.
    pub backend: Option<String>,
    /// Hash of the configuration that its last turn was under.
    pub config_hash: Option<String>,
    /// Why the conversation must not be resumed.
    pub poisoned_reason: Option<String>,
    /// Node on which the conversation lives.
    pub agent_session_node: Option<Uuid>,
    /// Base of the session's worktree on this node.
    pub base_commit: Option<String>,
    /// Checkpoint taken on this node before the task's first turn.
    pub checkpoint_before: Option<String>,
    /// Newest checkpoint of the session on this node, interrupted trees aside.
    pub last_checkpoint: Option<String>,
    /// When it was taken before a turn: of which task, by which agent.
    pub last_turn: Option<(Uuid, String)>,
    /// Fences of the task's earlier turns that got as far as a checkpoint, newest first.
    pub earlier_fences: Vec<i64>,
}

/// A conversation's row.
#[derive(Clone, Debug)]
pub struct ConversationRow {
    /// Agent.
    pub agent: String,
    /// Backend kind.
    pub backend: &'static str,
    /// Agent's id.
    pub agent_session_id: String,
    /// Port of a shared server.
    pub server_port: Option<i32>,
    /// State.
    pub status: &'static str,
    /// Hash of the agent's configuration (without the port).
    pub config_hash: String,
}

/// What is written when a turn begins.
#[derive(Clone, Debug)]
pub struct BeginRow {
    /// Lane.
    pub session: Uuid,
    /// Fence.
    pub fence: i64,
    /// Task.
    pub task: Uuid,
    /// Node.
    pub node: Uuid,
    /// The checkpoint before the turn.
    pub checkpoint: String,
    /// The task and the name of who changed what was found; no task for `user`.
    pub found_by: (Option<Uuid>, String),
    /// What was found changed.
    pub found: Vec<ChangeRow>,
    /// The conversation, now active.
    pub conversation: ConversationRow,
}

/// Where a worktree is.
#[derive(Clone, Debug)]
pub struct PlaceRow {
    /// Folder.
    pub path: String,
    /// Base commit.
    pub base_commit: String,
    /// Branch.
    pub branch: String,
}

/// One changed file.
#[derive(Clone, Debug)]
pub struct ChangeRow {
    /// Path.
    pub path: String,
    /// Path before a rename.
    pub old_path: Option<String>,
    /// Raw path when not UTF-8.
    pub path_raw: Option<Vec<u8>>,
    /// Operation.
    pub operation: &'static str,
    /// Mode before.
    pub old_mode: Option<String>,
    /// Mode after.
    pub new_mode: Option<String>,
    /// Binary.
    pub binary: bool,
    /// Blob before.
    pub old_blob: Option<String>,
    /// Blob after.
    pub new_blob: Option<String>,
    /// Unified diff.
    pub diff: Option<String>,
    /// Lines added.
    pub additions: i64,
    /// Lines removed.
    pub deletions: i64,
}

impl From<&FileChange> for ChangeRow {
    fn from(change: &FileChange) -> Self {
        Self {
            path: text::clean(change.path.clone()),
            old_path: change.old_path.clone().map(text::clean),
            path_raw: change.path_raw.clone(),
            operation: change.operation.as_str(),
            old_mode: change.old_mode.clone(),
            new_mode: change.new_mode.clone(),
            binary: change.binary,
            old_blob: change.old_blob.clone(),
            new_blob: change.new_blob.clone(),
            // A NUL grows when it is cleaned; what no longer fits is left out, as a diff too large is.
            diff: change.diff.clone().map(text::clean).filter(|diff| diff.len() <= DIFF_BYTES_MAX),
            additions: change.additions,
            deletions: change.deletions,
        }
    }
}

/// What a turn cost.
#[derive(Clone, Debug)]
pub struct UsageRow {
    /// Model as asked.
    pub model: String,
    /// Input, output, reasoning, cache read, cache write.
    pub tokens: [i64; 5],
    /// Dollars.
    pub cost_usd: f64,
}

/// What a turn leaves behind.
#[derive(Clone, Debug)]
pub struct ResultRow {
    /// Lane.
    pub session: Uuid,
    /// Fence.
    pub fence: i64,
    /// Task.
    pub task: Uuid,
    /// Node.
    pub node: Uuid,
    /// Agent, who did the changes.
    pub agent: String,
    /// The answer, when there is one.
    pub output: Option<String>,
    /// The checkpoint after the turn.
    pub checkpoint: Option<String>,
    /// What changed.
    pub changes: Vec<ChangeRow>,
    /// What it cost.
    pub usage: Option<UsageRow>,
}
