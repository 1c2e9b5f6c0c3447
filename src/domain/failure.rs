//! Why a turn failed, and what that means. Nothing else decides whether a task is tried again.

/// A closed list; the CHECK of `tasks.failure_reason` repeats it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailureReason {
    /// The agent's process or server could not be started.
    SpawnFailed,
    /// The agent's version or answers are not what we support.
    AgentIncompatible,
    /// The agent's process or server ended in the middle of the turn.
    AgentCrashed,
    /// The agent or its model went silent for longer than the progress watch allows.
    Stalled,
    /// The turn ran into its own time limit.
    Timeout,
    /// The provider says: too many requests, later.
    RateLimited,
    /// The provider does not accept our credentials.
    AuthRequired,
    /// The provider failed (5xx, dropped connection) and the agent gave up.
    ProviderError,
    /// The provider refused the request itself (4xx).
    BadRequest,
    /// The conversation has outgrown the model.
    ContextOverflow,
    /// The model does not exist for this agent.
    ModelUnknown,
    /// The agent ended the turn without text, tool call or usage.
    EmptyTurn,
    /// The agent refused the task.
    Refused,
    /// The project is no repository, or may not be read.
    ProjectUnusable,
    /// The worktree could not be made, saved or restored.
    WorktreeFailed,
    /// The node that ran the turn is gone.
    NodeLost,
    /// The node was told to stop.
    Drained,
    /// The database did not take what the turn had to say.
    DatabaseFailed,
    /// A defect of ours.
    Internal,
}

/// The three columns of a reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Consequence {
    /// May the task be tried again?
    pub retry: bool,
    /// Does the failure count against the task's `max_failures`?
    pub charged: bool,
    /// Must the conversation not be resumed?
    pub poisons: bool,
}

impl FailureReason {
    /// Every reason, in the order of the SQL CHECK.
    pub const ALL: [Self; 19] = [
        Self::SpawnFailed,
        Self::AgentIncompatible,
        Self::AgentCrashed,
        Self::Stalled,
        Self::Timeout,
        Self::RateLimited,
        Self::AuthRequired,
        Self::ProviderError,
        Self::BadRequest,
        Self::ContextOverflow,
        Self::ModelUnknown,
        Self::EmptyTurn,
        Self::Refused,
        Self::ProjectUnusable,
        Self::WorktreeFailed,
        Self::NodeLost,
        Self::Drained,
        Self::DatabaseFailed,
        Self::Internal,
    ];

    /// The word in SQL and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SpawnFailed => "spawn_failed",
            Self::AgentIncompatible => "agent_incompatible",
            Self::AgentCrashed => "agent_crashed",
            Self::Stalled => "stalled",
            Self::Timeout => "timeout",
            Self::RateLimited => "rate_limited",
            Self::AuthRequired => "auth_required",
            Self::ProviderError => "provider_error",
            Self::BadRequest => "bad_request",
            Self::ContextOverflow => "context_overflow",
            Self::ModelUnknown => "model_unknown",
            Self::EmptyTurn => "empty_turn",
            Self::Refused => "refused",
            Self::ProjectUnusable => "project_unusable",
            Self::WorktreeFailed => "worktree_failed",
            Self::NodeLost => "node_lost",
            Self::Drained => "drained",
            Self::DatabaseFailed => "database_failed",
            Self::Internal => "internal",
        }
    }

    /// The reason of that word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == word)
    }

    /// What the reason means for the task and its conversation.
    pub const fn consequence(self) -> Consequence {
        let (retry, charged, poisons) = match self {
            Self::SpawnFailed | Self::RateLimited | Self::NodeLost | Self::Drained | Self::DatabaseFailed => {
                (true, false, false)
            }
            Self::AgentCrashed
            | Self::Stalled
            | Self::ProviderError
            | Self::EmptyTurn
            | Self::WorktreeFailed
            | Self::Internal => (true, true, false),
            Self::ContextOverflow => (true, true, true),
            Self::AuthRequired | Self::BadRequest => (false, true, true),
            Self::AgentIncompatible
            | Self::Timeout
            | Self::ModelUnknown
            | Self::Refused
            | Self::ProjectUnusable => (false, true, false),
        };
        Consequence { retry, charged, poisons }
    }
}
