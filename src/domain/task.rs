//! The life of a task: queued → dispatched → running → completed | failed | cancelled.

use super::agent::AgentName;
use super::ids::{Fence, SessionId, TaskId, WorkspaceId};
use serde_json::Value;

/// Longest prompt that is taken: 1 MiB, the limit that the table's CHECK repeats.
pub const PROMPT_BYTES_MAX: usize = 1 << 20;

/// Where a task stands. The CHECK of `tasks.status` repeats this list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TaskStatus {
    /// Waits, admitted or not.
    Queued,
    /// A node holds the lane and prepares the turn.
    Dispatched,
    /// The agent has the prompt.
    Running,
    /// Ended well.
    Completed,
    /// Ended with a [`super::failure::FailureReason`] and no further try.
    Failed,
    /// Ended because somebody asked, or because its session was closed.
    Cancelled,
}

/// What can happen to a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskMove {
    /// A node took the lane.
    Claim,
    /// The prompt was sent.
    Start,
    /// The turn ended well.
    Complete,
    /// The turn failed for good.
    Fail,
    /// The task was cancelled.
    Cancel,
    /// The turn ended and the task goes back to the queue.
    Requeue,
}

/// A move that the state does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a {} task cannot take the move {mv:?}", from.as_str())]
pub struct IllegalTaskMove {
    /// Where the task stood.
    pub from: TaskStatus,
    /// What was asked.
    pub mv: TaskMove,
}

impl TaskStatus {
    /// Every status, in the order of the SQL CHECK.
    pub const ALL: [Self; 6] =
        [Self::Queued, Self::Dispatched, Self::Running, Self::Completed, Self::Failed, Self::Cancelled];

    /// The word in SQL and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Dispatched => "dispatched",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// The status of that word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == word)
    }

    /// True when no move leads on.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }

    /// The status after a move.
    ///
    /// # Errors
    /// [`IllegalTaskMove`] for a pair that the state diagram does not have.
    pub const fn after(self, mv: TaskMove) -> Result<Self, IllegalTaskMove> {
        use TaskMove as M;
        match (self, mv) {
            (Self::Queued, M::Claim) => Ok(Self::Dispatched),
            (Self::Queued, M::Cancel) => Ok(Self::Cancelled),
            (Self::Dispatched, M::Start) => Ok(Self::Running),
            (Self::Dispatched | Self::Running, M::Complete) => Ok(Self::Completed),
            (Self::Dispatched | Self::Running, M::Fail) => Ok(Self::Failed),
            (Self::Dispatched | Self::Running, M::Cancel) => Ok(Self::Cancelled),
            (Self::Dispatched | Self::Running, M::Requeue) => Ok(Self::Queued),
            (Self::Queued, M::Start | M::Complete | M::Fail | M::Requeue)
            | (Self::Dispatched, M::Claim)
            | (Self::Running, M::Claim | M::Start)
            | (Self::Completed | Self::Failed | Self::Cancelled, _) => {
                Err(IllegalTaskMove { from: self, mv })
            }
        }
    }
}

/// What a task asks of its agent beyond the prompt; every field is a wish that the agent may not offer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TaskSettings {
    /// `provider/model` or the agent's own name of a model.
    pub model: Option<String>,
    /// An agent mode (`build`, `plan`, …).
    pub mode_id: Option<String>,
    /// A level of thinking.
    pub thinking_option_id: Option<String>,
    /// Further options by name.
    pub feature_values: Option<Value>,
}

/// A task that a node has claimed, with the lease that lets it report.
#[derive(Clone, Debug, PartialEq)]
pub struct ClaimedTask {
    /// The right to write.
    pub lease: Lease,
    /// Whose tenant.
    pub workspace: WorkspaceId,
    /// Who is asked.
    pub agent: AgentName,
    /// The prompt, at most [`PROMPT_BYTES_MAX`] bytes.
    pub prompt: String,
    /// Wishes.
    pub settings: TaskSettings,
    /// 1 for the first execution; grows with each claim.
    pub attempt: i32,
    /// Failures charged so far.
    pub failures: i32,
    /// Charged failures after which the task fails.
    pub failures_max: i32,
    /// Sequence number of the last event already stored for the task (0: none).
    pub last_seq: i64,
    /// The fence of the attempt before, if there was one: its turn may have completed unseen.
    pub previous_fence: Option<Fence>,
    /// Somebody has already asked to cancel it.
    pub cancel_requested: bool,
}

/// The right to run and report on a lane's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lease {
    /// The lane.
    pub session: SessionId,
    /// Its head.
    pub task: TaskId,
    /// The number that proves it.
    pub fence: Fence,
}
