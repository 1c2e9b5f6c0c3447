//! Turn events as they are stored, and as readers get them. The choke point: what an agent said is cleaned here, once, before
//! it reaches Postgres.

use crate::domain::text::{EVENT_BYTES_MAX, clean, clean_json, cut};
use crate::domain::turn::{LoggedEvent, ToolCall, ToolDiff, TurnEvent};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::sync::Arc;

/// Longest side of a diff that is shown, in bytes; the change itself is in the worktree.
const DIFF_BYTES_MAX: usize = 64 << 10;

/// The columns of `task_messages` that an event fills.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StoredEvent {
    /// Kind; the CHECK of `task_messages.type` repeats these words.
    pub kind: &'static str,
    /// Tool name.
    pub tool: Option<String>,
    /// Text.
    pub content: Option<String>,
    /// JSON part.
    pub input: Option<Value>,
    /// Tool output, or a preview of it.
    pub output: Option<String>,
    /// Bytes of the whole output, where that is a preview.
    pub output_bytes: Option<i64>,
    /// The whole output, compressed, where it is kept.
    pub whole_output: Option<Arc<[u8]>>,
}

/// An event as readers get it over SSE and JSON.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct EventView {
    /// Position in the session's stream.
    pub pos: i64,
    /// Task.
    pub task_id: uuid::Uuid,
    /// Number within the task.
    pub seq: i64,
    /// Kind.
    #[serde(rename = "type")]
    pub kind: String,
    /// Tool name.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub tool: Option<String>,
    /// Text.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub content: Option<String>,
    /// JSON part.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub input: Option<Value>,
    /// Tool output; its beginning and its end, when it is longer than 64 KiB.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub output: Option<String>,
    /// Bytes of the whole output, where `output` is a preview. With a call's last event `…/messages/{seq}/output` has the whole.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub output_bytes: Option<i64>,
    /// When stored.
    pub created_at: chrono::DateTime<chrono::Utc>,
}

/// The stored form of an event, cleaned and cut.
pub fn stored(event: LoggedEvent) -> StoredEvent {
    match event {
        LoggedEvent::Agent(event) => said(event),
        LoggedEvent::LongOutput { said: event, output } => StoredEvent {
            output_bytes: i64::try_from(output.bytes).ok(),
            whole_output: output.packed,
            ..said(event)
        },
        LoggedEvent::TurnStarted { attempt, agent, origin } => StoredEvent {
            kind: "turn_started",
            input: Some(json!({"attempt": attempt, "agent": agent.as_str(), "conversation": origin})),
            ..StoredEvent::default()
        },
        // The word of the question itself, so that whoever shows one finds the other.
        LoggedEvent::PermissionResolved { request, decision, expired } => {
            let status = if expired { "expired" } else { "answered" };
            let answer = crate::wire::permission::to_json(decision);
            StoredEvent {
                kind: "permission",
                content: Some(status.to_owned()),
                input: Some(clean_json(json!({"request_id": request, "status": status, "answer": answer}))),
                ..StoredEvent::default()
            }
        }
        LoggedEvent::TurnEnded { outcome, reason } => StoredEvent {
            kind: "turn_ended",
            content: Some(outcome.as_str().to_owned()),
            input: reason.map(|reason| json!({"reason": reason.as_str()})),
            ..StoredEvent::default()
        },
    }
}

fn said(event: TurnEvent) -> StoredEvent {
    match event {
        TurnEvent::Text(text) => words("text", text),
        TurnEvent::Reasoning(text) => words("reasoning", text),
        TurnEvent::Notice(text) => words("notice", text),
        TurnEvent::ModeChanged(mode) => words("mode_changed", mode),
        TurnEvent::ToolCall(call) => tool("tool_call", call),
        TurnEvent::ToolUpdate(call) => tool("tool_update", call),
        TurnEvent::Plan(entries) => data(
            "plan",
            entries
                .into_iter()
                .map(|entry| json!({"content": entry.content, "status": entry.status}))
                .collect(),
        ),
        TurnEvent::Commands(names) => data("commands", names.into_iter().map(Value::String).collect()),
        TurnEvent::Usage(usage) => data(
            "usage",
            json!({
                "input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens,
                "reasoning_tokens": usage.reasoning_tokens, "cache_read_tokens": usage.cache_read_tokens,
                "cache_write_tokens": usage.cache_write_tokens, "cost_usd": usage.cost_usd,
            }),
        ),
        TurnEvent::Permission(request) => StoredEvent {
            content: Some(limited(request.title)),
            ..data(
                "permission",
                json!({"request_id": request.agent_request_id, "kind": request.kind.as_str(), "payload": request.payload}),
            )
        },
        TurnEvent::Retry { attempt, message } => {
            StoredEvent { input: Some(json!({"attempt": attempt})), ..words("retry", message) }
        }
    }
}

fn words(kind: &'static str, text: String) -> StoredEvent {
    StoredEvent { kind, content: Some(limited(text)), ..StoredEvent::default() }
}

fn data(kind: &'static str, value: Value) -> StoredEvent {
    StoredEvent { kind, input: Some(limited_json(value)), ..StoredEvent::default() }
}

fn tool(kind: &'static str, call: ToolCall) -> StoredEvent {
    let mut input = json!({"call_id": call.call_id, "status": call.status.as_str(), "input": call.input});
    if !call.locations.is_empty() {
        input["locations"] = json!(call.locations);
    }
    if !call.diffs.is_empty() {
        // Not sooner: half a secret at the end of what is cut would not be recognised.
        let side = |text: String| cut(text, DIFF_BYTES_MAX);
        let diff =
            |diff: ToolDiff| json!({"path": diff.path, "old": diff.old.map(side), "new": side(diff.new)});
        input["diffs"] = call.diffs.into_iter().map(diff).collect();
    }
    StoredEvent {
        kind,
        tool: Some(limited(call.tool)),
        content: call.title.map(limited),
        input: Some(limited_json(input)),
        output: call.output.map(limited),
        ..StoredEvent::default()
    }
}

fn limited(text: String) -> String {
    cut(clean(text), EVENT_BYTES_MAX)
}

/// JSON cannot be cut in the middle: what is too large is replaced by a word that says so.
fn limited_json(value: Value) -> Value {
    let value = clean_json(value);
    let bytes = value.to_string().len();
    if bytes <= EVENT_BYTES_MAX { value } else { json!({"cut": format!("{bytes} bytes of JSON left out")}) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::turn::ToolStatus;

    #[test]
    fn what_an_agent_says_is_clean_before_it_is_stored() {
        let call = ToolCall {
            call_id: "c\0".into(),
            tool: "ba\0sh".into(),
            status: ToolStatus::Running,
            title: None,
            input: Some(json!({"k\u{0}": "\u{0}"})),
            output: Some("x".repeat(EVENT_BYTES_MAX + 9)),
            locations: Vec::new(),
            diffs: Vec::new(),
        };
        let event = stored(LoggedEvent::Agent(TurnEvent::ToolCall(call)));
        let all = format!("{event:?}");
        assert!(!all.contains('\0') && !all.contains("\\0") && !all.contains("\\u{0}"), "{}", &all[..200]);
        assert!(event.output.is_some_and(|output| output.ends_with("[9 bytes cut]")));
    }
}
