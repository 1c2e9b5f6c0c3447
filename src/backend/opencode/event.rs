//! The events of `/global/event`, one type a fact. Reads; decides nothing and drops nothing unnamed.

use super::wire::{
    AgentError, Delta, MessageInfo, Part, PermissionAsked, QuestionAsked, Session, Status, Todo, nullable,
};
use serde::Deserialize;
use serde_json::Value;

/// One line of `/global/event`.
#[derive(Debug, Deserialize)]
pub(super) struct GlobalEvent {
    /// What happened.
    pub payload: Payload,
}

/// The event itself.
#[derive(Debug, Deserialize)]
pub(super) struct Payload {
    /// Its name.
    #[serde(rename = "type", default, deserialize_with = "nullable")]
    pub kind: String,
    /// Its fields, read by [`Event::parse`].
    #[serde(default, deserialize_with = "nullable")]
    pub properties: Value,
}

/// An event that we understand. One type a fact; what we do not use is `Ignored` by name, never by silence.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Event {
    /// The stream lives.
    Alive,
    /// A message is new or changed.
    Message(MessageInfo),
    /// A part of a message is new or changed, whole.
    Part(Part),
    /// A piece of a part's text.
    Delta(Delta),
    /// What the session does now.
    Status { session: String, status: Status },
    /// The session does nothing now. Names no turn.
    Idle { session: String },
    /// Something failed. Names no turn.
    Error { session: Option<String>, error: AgentError },
    /// A tool waits for a person.
    Permission(PermissionAsked),
    /// The model asks a person.
    Question(QuestionAsked),
    /// A session was made, by us or (with a parent) for a subagent.
    Created(Session),
    /// The plan, whole.
    Todos { session: String, todos: Vec<Todo> },
    /// The conversation was shortened.
    Compacted { session: String },
    /// Known, and of no use to us.
    Ignored,
    /// Not known: counted.
    Unknown(String),
}

impl Event {
    /// Reads any payload; one of a known name but a shape that we cannot read is unknown too.
    pub fn parse(payload: Payload) -> Self {
        let Payload { kind, properties } = payload;
        let shaped = |event: Option<Self>| event.unwrap_or_else(|| Self::Unknown(format!("{kind} (shape)")));
        match kind.as_str() {
            "server.connected" | "server.heartbeat" => Self::Alive,
            "message.updated" => shaped(read(properties).map(|p: Info<MessageInfo>| Self::Message(p.info))),
            "message.part.updated" => shaped(read(properties).map(|p: PartUpdated| Self::Part(p.part))),
            "message.part.delta" => shaped(read(properties).map(Self::Delta)),
            "session.status" => shaped(
                read(properties)
                    .map(|p: StatusUpdated| Self::Status { session: p.session_id, status: p.status }),
            ),
            "session.idle" => {
                shaped(read(properties).map(|p: OfSession| Self::Idle { session: p.session_id }))
            }
            "session.error" => shaped(
                read(properties).map(|p: ErrorUpdated| Self::Error { session: p.session_id, error: p.error }),
            ),
            "permission.asked" => shaped(PermissionAsked::read(properties).map(Self::Permission)),
            "question.asked" => shaped(QuestionAsked::read(properties).map(Self::Question)),
            "session.created" => shaped(read(properties).map(|p: Info<Session>| Self::Created(p.info))),
            "todo.updated" => shaped(
                read(properties).map(|p: TodosUpdated| Self::Todos { session: p.session_id, todos: p.todos }),
            ),
            "session.compacted" => {
                shaped(read(properties).map(|p: OfSession| Self::Compacted { session: p.session_id }))
            }
            name if is_ignored(name) => Self::Ignored,
            _ => Self::Unknown(kind),
        }
    }

    /// The conversation that the event is about, which decides who hears it.
    pub fn session(&self) -> Option<&str> {
        match self {
            Self::Message(info) => Some(&info.session_id),
            Self::Part(part) => Some(&part.session_id),
            Self::Delta(delta) => Some(&delta.session_id),
            Self::Status { session, .. }
            | Self::Idle { session }
            | Self::Todos { session, .. }
            | Self::Compacted { session } => Some(session),
            Self::Error { session, .. } => session.as_deref(),
            Self::Permission(asked) => Some(&asked.session_id),
            Self::Question(asked) => Some(&asked.session_id),
            Self::Created(session) => Some(&session.id),
            Self::Alive | Self::Ignored | Self::Unknown(_) => None,
        }
    }
}

/// Events of opencode 1.18 that tell a turn nothing. `sync` repeats other events; `session.next.*` is the shape of
/// a later major version, sent beside the one that we read.
fn is_ignored(name: &str) -> bool {
    const FAMILIES: [&str; 16] = [
        "catalog.",
        "file.",
        "installation.",
        "integration.",
        "lsp.",
        "mcp.",
        "models-dev.",
        "plugin.",
        "project.",
        "pty.",
        "reference.",
        "session.next.",
        "tui.",
        "vcs.",
        "workspace.",
        "worktree.",
    ];
    const NAMES: [&str; 16] = [
        "sync",
        "session.updated",
        "session.diff",
        "session.deleted",
        "message.removed",
        "message.part.removed",
        "permission.replied",
        "permission.v2.asked",
        "permission.v2.replied",
        "question.replied",
        "question.rejected",
        "question.v2.asked",
        "question.v2.replied",
        "question.v2.rejected",
        "command.executed",
        "server.instance.disposed",
    ];
    name == "global.disposed"
        || NAMES.contains(&name)
        || FAMILIES.iter().any(|family| name.starts_with(family))
}

fn read<T: for<'de> Deserialize<'de>>(value: Value) -> Option<T> {
    serde_json::from_value(value).ok()
}

#[derive(Deserialize)]
struct Info<T> {
    info: T,
}

#[derive(Deserialize)]
struct PartUpdated {
    part: Part,
}

#[derive(Deserialize)]
struct OfSession {
    #[serde(rename = "sessionID")]
    session_id: String,
}

#[derive(Deserialize)]
struct StatusUpdated {
    #[serde(rename = "sessionID")]
    session_id: String,
    status: Status,
}

#[derive(Deserialize)]
struct ErrorUpdated {
    #[serde(rename = "sessionID")]
    session_id: Option<String>,
    #[serde(default, deserialize_with = "nullable")]
    error: AgentError,
}

#[derive(Deserialize)]
struct TodosUpdated {
    #[serde(rename = "sessionID")]
    session_id: String,
    #[serde(default, deserialize_with = "nullable")]
    todos: Vec<Todo>,
}
