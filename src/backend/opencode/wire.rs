//! The JSON that opencode sends, as far as we read it. Lenient: unknown fields are ignored, nulls and gaps are
//! taken as empty, because a field that we do not need must never cost a turn. It decides nothing.

use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// A null is as good as an absent field.
fn nullable<'de, D, T>(from: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::<T>::deserialize(from)?.unwrap_or_default())
}

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

/// A line of the plan.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct Todo {
    #[serde(default, deserialize_with = "nullable")]
    pub content: String,
    #[serde(default, deserialize_with = "nullable")]
    pub status: String,
}

/// A conversation.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct Session {
    pub id: String,
    #[serde(rename = "parentID")]
    pub parent_id: Option<String>,
}

/// What a session does: `busy`, `idle` or `retry` (and then why, and for the how-manyth time).
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct Status {
    #[serde(rename = "type", default, deserialize_with = "nullable")]
    pub kind: String,
    #[serde(default, deserialize_with = "nullable")]
    pub attempt: u32,
    #[serde(default, deserialize_with = "nullable")]
    pub message: String,
}

/// `GET /session/status`: a session that is absent is idle.
pub(super) type Statuses = BTreeMap<String, Status>;

/// A message with its parts, as `GET /session/{id}/message` gives them.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct Message {
    pub info: MessageInfo,
    #[serde(default, deserialize_with = "nullable")]
    pub parts: Vec<Part>,
}

/// The head of a message.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct MessageInfo {
    pub id: String,
    #[serde(rename = "sessionID", default, deserialize_with = "nullable")]
    pub session_id: String,
    #[serde(default, deserialize_with = "nullable")]
    pub role: String,
    #[serde(rename = "parentID")]
    pub parent_id: Option<String>,
    #[serde(default, deserialize_with = "nullable")]
    pub time: Time,
    pub finish: Option<String>,
    pub error: Option<AgentError>,
    pub agent: Option<String>,
}

/// Milliseconds since 1970; opencode writes whole numbers but promises none.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub(super) struct Time {
    pub completed: Option<f64>,
    pub end: Option<f64>,
}

/// A failure in opencode's words.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub(super) struct AgentError {
    #[serde(default, deserialize_with = "nullable")]
    pub name: String,
    #[serde(default, deserialize_with = "nullable")]
    pub data: Value,
}

/// A part of a message: text, reasoning, tool, step-finish, …
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct Part {
    pub id: String,
    #[serde(rename = "messageID", default, deserialize_with = "nullable")]
    pub message_id: String,
    #[serde(rename = "sessionID", default, deserialize_with = "nullable")]
    pub session_id: String,
    #[serde(rename = "type", default, deserialize_with = "nullable")]
    pub kind: String,
    #[serde(default, deserialize_with = "nullable")]
    pub text: String,
    #[serde(default, deserialize_with = "nullable")]
    pub time: Time,
    #[serde(default, deserialize_with = "nullable")]
    pub tool: String,
    #[serde(rename = "callID", default, deserialize_with = "nullable")]
    pub call_id: String,
    #[serde(default, deserialize_with = "nullable")]
    pub state: ToolState,
    #[serde(default, deserialize_with = "nullable")]
    pub tokens: Tokens,
    #[serde(default, deserialize_with = "nullable")]
    pub cost: f64,
}

/// Where a tool stands.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub(super) struct ToolState {
    #[serde(default, deserialize_with = "nullable")]
    pub status: String,
    pub input: Option<Value>,
    pub output: Option<String>,
    pub error: Option<String>,
    pub title: Option<String>,
}

/// Tokens of one step. `input` is without the cache and `output` without `reasoning` (read in 1.18.33).
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub(super) struct Tokens {
    #[serde(default, deserialize_with = "nullable")]
    pub input: f64,
    #[serde(default, deserialize_with = "nullable")]
    pub output: f64,
    #[serde(default, deserialize_with = "nullable")]
    pub reasoning: f64,
    #[serde(default, deserialize_with = "nullable")]
    pub cache: CacheTokens,
}

/// Tokens of the provider's cache.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub(super) struct CacheTokens {
    #[serde(default, deserialize_with = "nullable")]
    pub read: f64,
    #[serde(default, deserialize_with = "nullable")]
    pub write: f64,
}

/// A piece of a part's text.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct Delta {
    #[serde(rename = "sessionID")]
    pub session_id: String,
    #[serde(rename = "messageID")]
    pub message_id: String,
    #[serde(rename = "partID")]
    pub part_id: String,
    #[serde(default, deserialize_with = "nullable")]
    pub field: String,
    #[serde(default, deserialize_with = "nullable")]
    pub delta: String,
}

/// A tool waits for a person. The whole request is kept for those who want to see it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct PermissionAsked {
    pub id: String,
    pub session_id: String,
    pub permission: String,
    pub patterns: Vec<String>,
    pub whole: Value,
}

/// The model asks a person; one question or several.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct QuestionAsked {
    pub id: String,
    pub session_id: String,
    pub questions: Vec<String>,
    pub whole: Value,
}

impl PermissionAsked {
    /// Reads a request of an event or of `GET /permission`.
    pub fn read(whole: Value) -> Option<Self> {
        let fields = whole.as_object()?;
        Some(Self {
            id: text(fields, "id")?,
            session_id: text(fields, "sessionID")?,
            permission: text(fields, "permission").unwrap_or_default(),
            patterns: fields
                .get("patterns")
                .and_then(Value::as_array)
                .map(|all| all.iter().filter_map(|one| one.as_str().map(str::to_owned)).collect())
                .unwrap_or_default(),
            whole,
        })
    }
}

impl QuestionAsked {
    /// Reads a request of an event or of `GET /question`.
    pub fn read(whole: Value) -> Option<Self> {
        let fields = whole.as_object()?;
        let questions = fields.get("questions").and_then(Value::as_array);
        Some(Self {
            id: text(fields, "id")?,
            session_id: text(fields, "sessionID")?,
            questions: questions
                .map(|all| all.iter().filter_map(|one| text(one.as_object()?, "question")).collect())
                .unwrap_or_default(),
            whole,
        })
    }
}

fn text(fields: &Map<String, Value>, name: &str) -> Option<String> {
    fields.get(name)?.as_str().map(str::to_owned)
}
