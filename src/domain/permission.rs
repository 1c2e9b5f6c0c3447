//! Questions that an agent asks of a person, and their answers.

use serde_json::Value;

/// What is asked. The CHECK of `permission_requests.kind` repeats this list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PermissionKind {
    /// May this tool run?
    Tool,
    /// A question with options or free text.
    Question,
    /// Is this plan good?
    Plan,
    /// A form to fill in.
    Elicitation,
}

impl PermissionKind {
    /// Every kind, in the order of the SQL CHECK.
    pub const ALL: [Self; 4] = [Self::Tool, Self::Question, Self::Plan, Self::Elicitation];

    /// The word in SQL and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tool => "tool",
            Self::Question => "question",
            Self::Plan => "plan",
            Self::Elicitation => "elicitation",
        }
    }

    /// The kind of that word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }
}

/// Where a request stands. The CHECK of `permission_requests.status` repeats this list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PermissionStatus {
    /// Nobody has answered.
    Pending,
    /// A person or the policy has answered.
    Answered,
    /// The deadline passed; the default was given.
    Expired,
    /// The turn ended first.
    Cancelled,
}

impl PermissionStatus {
    /// Every status, in the order of the SQL CHECK.
    pub const ALL: [Self; 4] = [Self::Pending, Self::Answered, Self::Expired, Self::Cancelled];

    /// The word in SQL and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Answered => "answered",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
        }
    }
}

/// What a request asks access for, as the request itself says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It only reads, within the agent's own folder.
    Read,
    /// It may change something.
    Write,
    /// It does not say.
    Unknown,
}

/// A request as the agent made it.
#[derive(Clone, Debug, PartialEq)]
pub struct PermissionRequest {
    /// The agent's own id; unique within the turn.
    pub agent_request_id: String,
    /// What is asked.
    pub kind: PermissionKind,
    /// What it is for. No policy takes an unknown one for a harmless one.
    pub access: Access,
    /// A line for people (`bash: cargo test`).
    pub title: String,
    /// What the agent sent, for those who want to see all of it.
    pub payload: Value,
}

/// What was decided.
#[derive(Clone, Debug, PartialEq)]
pub enum PermissionDecision {
    /// Yes, this once.
    AllowOnce,
    /// Yes, and do not ask for the like again in this conversation.
    AllowAlways,
    /// No.
    Deny {
        /// Told to the agent.
        message: Option<String>,
    },
    /// The answer to a question: chosen labels or free text, one list a question.
    Answers(Vec<Vec<String>>),
}

/// A decision on its way back to the agent.
#[derive(Clone, Debug, PartialEq)]
pub struct PermissionAnswer {
    /// Which request.
    pub agent_request_id: String,
    /// What was decided.
    pub decision: PermissionDecision,
}
