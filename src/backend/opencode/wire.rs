//! The JSON that opencode sends, as far as we read it. Lenient: unknown fields are ignored, nulls and gaps are
//! taken as empty, because a field that we do not need must never cost a turn. It decides nothing.

use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// A null is as good as an absent field.
pub(super) fn nullable<'de, D, T>(from: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::<T>::deserialize(from)?.unwrap_or_default())
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
    #[serde(default, deserialize_with = "nullable")]
    pub time: SessionTime,
}

/// When things happened to a conversation.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub(super) struct SessionTime {
    /// We ended it then: it is not gone on with.
    pub archived: Option<f64>,
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
    /// When it is tried again: milliseconds since 1970.
    #[serde(default, deserialize_with = "nullable")]
    pub next: u64,
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
