//! Sessions, and the state of an agent's conversation within one.

use super::agent::AgentName;
use super::ids::SessionId;

/// The key of a slot, of an agent session and of its row: (session, agent).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionKey {
    /// The line of work.
    pub session: SessionId,
    /// Who works in it.
    pub agent: AgentName,
}

impl std::fmt::Display for SessionKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.session, self.agent)
    }
}

/// Whether a session takes work. The CHECK of `sessions.status` repeats this list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionStatus {
    /// Takes tasks.
    Open,
    /// Takes none; what is queued ends as cancelled.
    Closed,
}

impl SessionStatus {
    /// Every status, in the order of the SQL CHECK.
    pub const ALL: [Self; 2] = [Self::Open, Self::Closed];

    /// The word in SQL and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Closed => "closed",
        }
    }
}

/// Where a conversation stands. The CHECK of `agent_sessions.status` repeats this list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AgentSessionStatus {
    /// No turn runs; warm or resumable.
    Idle,
    /// A turn runs.
    Active,
    /// Its backend was lost in a turn; the next turn tries to resume.
    Crashed,
    /// Ended with its session.
    Closed,
}

/// What can happen to a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AgentSessionMove {
    /// A turn begins.
    TurnStarted,
    /// A turn ended and its backend lives.
    TurnEnded,
    /// The backend was lost.
    BackendLost,
    /// The session was closed.
    Close,
}

/// A move that the state does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an agent session that is {} cannot take the move {mv:?}", from.as_str())]
pub struct IllegalAgentSessionMove {
    /// Where it stood.
    pub from: AgentSessionStatus,
    /// What was asked.
    pub mv: AgentSessionMove,
}

impl AgentSessionStatus {
    /// Every status, in the order of the SQL CHECK.
    pub const ALL: [Self; 4] = [Self::Idle, Self::Active, Self::Crashed, Self::Closed];

    /// The word in SQL and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Active => "active",
            Self::Crashed => "crashed",
            Self::Closed => "closed",
        }
    }

    /// The status of that word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == word)
    }

    /// The status after a move.
    ///
    /// # Errors
    /// [`IllegalAgentSessionMove`] for a pair that the state diagram does not have.
    pub const fn next(self, mv: AgentSessionMove) -> Result<Self, IllegalAgentSessionMove> {
        use AgentSessionMove as M;
        match (self, mv) {
            (Self::Idle | Self::Crashed, M::TurnStarted) => Ok(Self::Active),
            (Self::Active, M::TurnEnded) => Ok(Self::Idle),
            (Self::Idle | Self::Active | Self::Crashed, M::BackendLost) => Ok(Self::Crashed),
            (Self::Idle | Self::Active | Self::Crashed | Self::Closed, M::Close) => Ok(Self::Closed),
            (Self::Active, M::TurnStarted)
            | (Self::Idle | Self::Crashed, M::TurnEnded)
            | (Self::Closed, M::TurnStarted | M::TurnEnded | M::BackendLost) => {
                Err(IllegalAgentSessionMove { from: self, mv })
            }
        }
    }
}
