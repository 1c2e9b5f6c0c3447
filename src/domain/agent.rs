//! What an agent is called, how it is run, and what it may do unasked.

use super::change::BY_USER;
use super::redaction::Redactor;
use std::fmt;

/// The name of a configured agent: `^[a-z0-9][a-z0-9._-]{0,63}$`, because names become file names and labels.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AgentName(String);

/// Why a text is no agent name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no agent name: use 1 to 64 of a-z 0-9 . _ -, beginning with a letter or a digit")]
pub struct BadAgentName(pub String);

impl AgentName {
    /// Checks a name.
    ///
    /// # Errors
    /// [`BadAgentName`] when it is empty, too long or holds another character.
    pub fn new(text: impl Into<String>) -> Result<Self, BadAgentName> {
        let text = text.into();
        let first_ok = text.bytes().next().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        let rest_ok =
            text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b));
        let reserved = text == BY_USER;
        if first_ok && rest_ok && !reserved && text.len() <= 64 {
            Ok(Self(text))
        } else {
            Err(BadAgentName(text))
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AgentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The way a backend speaks with its agent. The CHECK of `agent_sessions.backend` repeats this list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BackendKind {
    /// One opencode HTTP server for all sessions of a (node, workspace).
    OpencodeServer,
    /// Long-lived processes that speak the Agent Client Protocol.
    AcpWarm,
    /// Plays scenarios from a file; no agent at all.
    Scripted,
}

impl BackendKind {
    /// Every kind, in the order of the SQL CHECK.
    pub const ALL: [Self; 3] = [Self::OpencodeServer, Self::AcpWarm, Self::Scripted];

    /// The word in SQL, configuration and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OpencodeServer => "opencode_server",
            Self::AcpWarm => "acp_warm",
            Self::Scripted => "scripted",
        }
    }

    /// The kind of that word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }
}

/// What happens when an agent asks for permission. The CHECK of `sessions.permission_policy` repeats this list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PermissionRule {
    /// Everything asked is allowed at once.
    Allow,
    /// What says of itself that it only reads is allowed at once, everything else is refused at once.
    AllowReads,
    /// Everything asked is refused at once.
    Deny,
    /// A person is asked, for so long.
    Ask,
}

impl PermissionRule {
    /// Every rule, in the order of the SQL CHECK.
    pub const ALL: [Self; 4] = [Self::Allow, Self::AllowReads, Self::Deny, Self::Ask];

    /// The word in SQL, configuration and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::AllowReads => "allow_reads",
            Self::Deny => "deny",
            Self::Ask => "ask",
        }
    }

    /// The rule of that word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|rule| rule.as_str() == word)
    }
}

/// A rule, and how people are asked where it says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PermissionPolicy {
    /// What holds.
    pub rule: PermissionRule,
    /// Seconds a person has.
    pub deadline_secs: u32,
    /// What holds when nobody answered.
    pub fallback: PermissionDefault,
}

impl PermissionPolicy {
    /// The policy of a session that has a rule of its own, with the agent's deadline and default; the agent's without one.
    pub fn of_session(self, rule: Option<PermissionRule>) -> Self {
        Self { rule: rule.unwrap_or(self.rule), ..self }
    }
}

/// What an unanswered question becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PermissionDefault {
    /// Allowed.
    Allow,
    /// Refused.
    Deny,
}

/// How an agent is treated on this node.
#[derive(Clone, Debug, PartialEq)]
pub struct AgentProfile {
    /// Name.
    pub name: AgentName,
    /// How it is reached.
    pub backend: BackendKind,
    /// Used when the task names no model.
    pub default_model: Option<String>,
    /// Used when the task names no mode.
    pub default_mode: Option<String>,
    /// Used when the task names no level of thinking.
    pub default_thinking: Option<String>,
    /// What happens when it asks for permission.
    pub permission: PermissionPolicy,
    /// Seconds without any event after which a turn counts as stalled; paused while a person is asked.
    pub stall_secs: u64,
    /// Seconds that one turn may last altogether.
    pub turn_secs: u64,
    /// Hash of what a conversation depends on (model and options, never a port).
    pub config_hash: String,
    /// Takes its secrets out of what it says.
    pub redactor: Redactor,
}
