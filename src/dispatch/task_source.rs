//! Everything that the engine wants of the other side, in the engine's own words. Implemented over the store here and, for
//! remote nodes, over HTTP; small enough for both.

mod turn;

pub use turn::{
    FoundChanges, InterruptedTree, LastCheckpoint, ProjectPlace, StoredConversation, TurnBegin, TurnFacts,
    TurnResult, WorktreeFacts,
};

use crate::domain::agent::AgentName;
use crate::domain::failure::FailureReason;
use crate::domain::ids::{Fence, SessionId, TaskId};
use crate::domain::permission::{PermissionAnswer, PermissionDecision, PermissionRequest};
use crate::domain::permission_rule::StandingRule;
use crate::domain::session::{AgentSessionStatus, SessionKey};
use crate::domain::task::{ClaimedTask, Lease, TaskStatus};
pub use crate::domain::turn::LoggedEvent;
use async_trait::async_trait;
use std::time::Duration;
use tokio::sync::broadcast;
use uuid::Uuid;

/// The other side.
#[async_trait]
pub trait TaskSource: Send + Sync + 'static {
    /// Admits what is due into its lanes.
    ///
    /// # Errors
    /// [`SourceError`]; nothing is half-done.
    async fn admit(&self) -> Result<(), SourceError>;

    /// Writes the ends of turns and claims new heads. Giving the same finishes again is safe.
    ///
    /// # Errors
    /// [`SourceError`]; nothing is half-done.
    async fn tick(&self, finishes: &[Finish], want: &Want) -> Result<Tick, SourceError>;

    /// Extends leases; what is not returned is lost.
    ///
    /// # Errors
    /// [`SourceError`]; no lease was extended.
    async fn renew(&self, held: &[Lease]) -> Result<Vec<Renewed>, SourceError>;

    /// Which of these tasks were asked to be cancelled.
    ///
    /// # Errors
    /// [`SourceError`].
    async fn cancels_asked(&self, tasks: &[TaskId]) -> Result<Vec<TaskId>, SourceError>;

    /// Appends events. Appending the same numbers again is safe.
    ///
    /// # Errors
    /// [`SourceError`]; nothing was appended, or the answer was lost.
    async fn append(&self, batches: &[EventBatch]) -> Result<Vec<AppendOutcome>, SourceError>;

    /// What to know before a turn.
    ///
    /// # Errors
    /// [`SourceError`].
    async fn facts(&self, lease: &Lease, agent: &AgentName) -> Result<TurnFacts, SourceError>;

    /// Remembers where a session's worktree is.
    ///
    /// # Errors
    /// [`SourceError::LostLease`] writes nothing.
    async fn save_worktree(&self, lease: &Lease, worktree: &WorktreeFacts) -> Result<(), SourceError>;

    /// Keeps the tree that an interrupted turn left, with what it had changed. What comes next, the way back, may only be gone with the lease held.
    ///
    /// # Errors
    /// [`SourceError::LostLease`] writes nothing.
    async fn save_interrupted(&self, lease: &Lease, tree: &InterruptedTree) -> Result<(), SourceError>;

    /// The task runs: its status, the checkpoint before it, what was found changed since the last one, its conversation.
    ///
    /// # Errors
    /// [`SourceError::LostLease`] writes nothing.
    async fn begin_turn(&self, begin: &TurnBegin) -> Result<(), SourceError>;

    /// Output, usage, checkpoint and changes, before the light finish.
    ///
    /// # Errors
    /// [`SourceError::LostLease`] writes nothing.
    async fn store_result(&self, result: &TurnResult) -> Result<(), SourceError>;

    /// The finished turns of a conversation, oldest first: (prompt, output).
    ///
    /// # Errors
    /// [`SourceError`].
    async fn transcript(&self, key: &SessionKey, but: TaskId) -> Result<Vec<(String, String)>, SourceError>;

    /// The standing permission rules that hold now for the lane's session and this agent. Asked for each question, since a
    /// person may make one while the turn runs.
    ///
    /// # Errors
    /// [`SourceError`].
    async fn standing_rules(
        &self,
        lease: &Lease,
        agent: &AgentName,
    ) -> Result<Vec<StandingRule>, SourceError>;

    /// A question becomes a row.
    ///
    /// # Errors
    /// [`SourceError::LostLease`] writes nothing.
    async fn ask_permission(
        &self,
        lease: &Lease,
        agent: &AgentName,
        ask: &PermissionAsk,
    ) -> Result<(), SourceError>;

    /// Answers that people gave to these turns. An answer may come more than once: what is lost on the way comes again
    /// for a while, and after that its question's deadline finds it.
    ///
    /// # Errors
    /// [`SourceError`].
    async fn take_answers(&self, turns: &[Lease]) -> Result<Vec<(TaskId, PermissionAnswer)>, SourceError>;

    /// The deadline of a question passed: the default is stored, unless a person was faster. Asking again after a lost
    /// reply is safe.
    ///
    /// # Errors
    /// [`SourceError::LostLease`] when the question was closed with its lease.
    async fn expire_permission(
        &self,
        lease: &Lease,
        request: &str,
        answer: &PermissionDecision,
    ) -> Result<Standing, SourceError>;

    /// A standing rule answers a question that is a row already, unless a person was faster: says what holds. Asking again
    /// after a lost reply is safe.
    ///
    /// # Errors
    /// [`SourceError::LostLease`] when the question was closed with its lease.
    async fn answer_by_rule(
        &self,
        lease: &Lease,
        request: &str,
        rule: &StandingRule,
    ) -> Result<PermissionDecision, SourceError>;

    /// Wake-ups. Lossy: a lag is a wake-up too.
    fn wakes(&self) -> broadcast::Receiver<Wake>;
}

/// Why the other side did not do as told.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// Another may hold the lane now: stop quietly.
    #[error("the lease is lost")]
    LostLease,
    /// Not now; the same call may work in a moment.
    #[error("{0}")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It will not take these values; of several rows only some are at fault.
    #[error("{0}")]
    BadValue(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A defect: do not repeat.
    #[error("{0}")]
    Failed(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Why the engine is woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// There may be work.
    Work,
    /// A cancel was asked.
    Cancel,
    /// A question was answered.
    Answer,
    /// All of these: something may have been missed.
    Everything,
}

/// What the node is ready to take.
#[derive(Clone, Debug)]
pub struct Want {
    /// Free hands.
    pub hands: u16,
    /// Agents that can run now.
    pub agents: Vec<AgentName>,
}

/// What a tick answers.
#[derive(Debug, Default)]
pub struct Tick {
    /// In the order of the finishes.
    pub finished: Vec<FinishOutcome>,
    /// New turns.
    pub claimed: Vec<ClaimedTask>,
    /// More could be claimed.
    pub more: bool,
    /// Until something falls due.
    pub due_in: Option<Duration>,
}

/// How a turn leaves its lease.
#[derive(Clone, Debug)]
pub struct Finish {
    /// The right to say so.
    pub lease: Lease,
    /// New status; `Queued` gives the task back.
    pub status: TaskStatus,
    /// For `Queued`: until it may run again.
    pub wait: Duration,
    /// Why, and in words.
    pub failure: Option<(FailureReason, String)>,
    /// The failure counts against the task.
    pub charged: bool,
    /// The conversation's new state, when there is one, and whether it is poisoned.
    pub conversation: Option<(AgentName, AgentSessionStatus, Option<FailureReason>)>,
}

/// What a finish came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishOutcome {
    /// Written, now or before.
    Done,
    /// Not now; the lease stays.
    Again,
    /// Another may hold the lane.
    LostLease,
}

/// A lease that is still held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Renewed {
    /// Lane.
    pub session: SessionId,
    /// Fence.
    pub fence: Fence,
    /// Cancel was asked.
    pub cancel_requested: bool,
}

/// Events of one turn with their first number.
#[derive(Clone, Debug)]
pub struct EventBatch {
    /// The right to write.
    pub lease: Lease,
    /// Number of the first one.
    pub first_seq: i64,
    /// In order; never empty.
    pub events: Vec<LoggedEvent>,
}

/// What a batch came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendOutcome {
    /// Stored.
    Done,
    /// This number was expected.
    Gap {
        /// Next number.
        expected: i64,
    },
    /// Another may hold the lane.
    LostLease,
}

/// A question with what policy and rules made of it.
#[derive(Clone, Debug)]
pub struct PermissionAsk {
    /// What the agent asked.
    pub request: PermissionRequest,
    /// The answer that was there at once.
    pub answered: Option<PermissionDecision>,
    /// The standing rule that gave it; without one the policy did.
    pub rule: Option<Uuid>,
    /// What a person has.
    pub deadline: Option<Duration>,
}

/// What stands for a question whose deadline has passed.
#[derive(Clone, Debug, PartialEq)]
pub enum Standing {
    /// Nobody answered; the default holds.
    Expired,
    /// A person was faster; this may be the only time that the turn hears of it.
    Answered(PermissionDecision),
}
