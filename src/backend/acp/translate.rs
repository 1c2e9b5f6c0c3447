//! From what an agent says to turn events. Pure state of one turn; what is unknown is counted and told once, never an error.

use super::conversation::Said;
use super::offers::selection_of;
use crate::domain::turn::{PlanEntry, ToolCall, ToolDiff, ToolStatus, TurnEvent};
use agent_client_protocol::v1::schema::{
    ContentBlock, EmbeddedResourceResource, PlanEntryStatus, SessionUpdate, ToolCallContent,
    ToolCallLocation, ToolCallStatus, ToolCallUpdateFields, ToolKind,
};
use serde_json::Value;
use std::collections::{BTreeSet, HashMap, HashSet};

/// Text of a turn that is kept to see whether it is an error told as text, in bytes: such errors are short.
const KEPT_TEXT_BYTES: usize = 4 << 10;
/// Tool calls that are followed at once: more than a turn ever has open.
const CALLS_MAX: usize = 4096;

/// What is known of a turn.
#[derive(Default)]
pub(super) struct Translation {
    calls: HashMap<String, ToolCall>,
    /// Calls of a cancelled turn: what comes of them is not ours.
    stale: HashSet<String>,
    /// Calls that were refused.
    refused: HashSet<String>,
    unknown: BTreeSet<String>,
    title: Option<String>,
    /// The beginning of the answer.
    text: String,
    text_bytes: usize,
    called: bool,
}

impl Translation {
    /// `stale` are calls of the turn before; `title` what the conversation was called so far.
    pub(super) fn new(stale: HashSet<String>, title: Option<String>) -> Self {
        Self { stale, title, ..Self::default() }
    }

    /// The event that it makes, if it makes one.
    pub(super) fn take(&mut self, said: Said) -> Option<TurnEvent> {
        match said {
            Said::Update(update) => self.update(*update),
            Said::Unknown(kind) => self.unknown(kind),
        }
    }

    /// The whole answer, when it is short and nothing else was done: it may be an error told as text.
    pub(super) fn short_answer(&self) -> Option<&str> {
        let short = self.text_bytes == self.text.len() && !self.called;
        short.then_some(self.text.trim()).filter(|text| !text.is_empty())
    }

    /// The call was refused: not every agent says what became of it.
    pub(super) fn refused(&mut self, id: &str) {
        self.refused.insert(id.to_owned());
    }

    /// A call was refused.
    pub(super) fn was_refused(&self) -> bool {
        !self.refused.is_empty()
    }

    /// What the turn's end says of calls that were refused and of which nothing was heard since.
    pub(super) fn close(&mut self) -> Vec<TurnEvent> {
        let open = |call: &&mut ToolCall| matches!(call.status, ToolStatus::Pending | ToolStatus::Running);
        let refused =
            self.calls.values_mut().filter(open).filter(|call| self.refused.contains(&call.call_id));
        refused
            .map(|call| {
                call.status = ToolStatus::Failed;
                TurnEvent::ToolUpdate(call.clone())
            })
            .collect()
    }

    /// Calls that have not ended.
    pub(super) fn open_calls(self) -> HashSet<String> {
        let open = self
            .calls
            .into_values()
            .filter(|call| matches!(call.status, ToolStatus::Pending | ToolStatus::Running));
        open.map(|call| call.call_id).collect()
    }

    /// The call that a permission request is about, as far as it is known: some agents announce it nowhere else.
    pub(super) fn announce(
        &mut self,
        id: &str,
        fields: ToolCallUpdateFields,
    ) -> (ToolCall, Option<TurnEvent>) {
        let event = self.call_update(id, fields, None);
        let call = self.calls.get(id).cloned().unwrap_or_else(|| blank(id));
        (call, event.filter(|event| matches!(event, TurnEvent::ToolCall(_))))
    }

    fn update(&mut self, update: SessionUpdate) -> Option<TurnEvent> {
        match update {
            SessionUpdate::AgentMessageChunk(chunk) => {
                let text = text_of(chunk.content);
                self.keep(&text);
                (!text.is_empty()).then_some(TurnEvent::Text(text))
            }
            SessionUpdate::AgentThoughtChunk(chunk) => {
                let text = text_of(chunk.content);
                (!text.is_empty()).then_some(TurnEvent::Reasoning(text))
            }
            SessionUpdate::ToolCall(call) => {
                let id = call.tool_call_id.0.to_string();
                let mut fields = ToolCallUpdateFields::default();
                fields.kind = Some(call.kind);
                fields.status = Some(call.status);
                fields.title = Some(call.title);
                fields.content = Some(call.content);
                fields.locations = Some(call.locations);
                fields.raw_input = call.raw_input;
                fields.raw_output = call.raw_output;
                let name = tool_name(call.meta.as_ref());
                self.call_update(&id, fields, name)
            }
            SessionUpdate::ToolCallUpdate(update) => {
                let name = update.fields.name.clone().or_else(|| tool_name(update.meta.as_ref()));
                let id = update.tool_call_id.0.to_string();
                self.call_update(&id, update.fields, name)
            }
            SessionUpdate::Plan(plan) => {
                let entry = |entry: agent_client_protocol::v1::schema::PlanEntry| PlanEntry {
                    content: entry.content,
                    status: plan_word(&entry.status).to_owned(),
                };
                Some(TurnEvent::Plan(plan.entries.into_iter().map(entry).collect()))
            }
            SessionUpdate::AvailableCommandsUpdate(update) => {
                let names = update.available_commands.into_iter().map(|command| command.name);
                Some(TurnEvent::Commands(names.collect()))
            }
            SessionUpdate::CurrentModeUpdate(update) => {
                Some(TurnEvent::ModeChanged(update.current_mode_id.0.to_string()))
            }
            SessionUpdate::ConfigOptionUpdate(update) => {
                let option = |option: &agent_client_protocol::v1::schema::SessionConfigOption| {
                    format!("{}={}", option.id.0, selection_of(option).current)
                };
                let options: Vec<_> = update.config_options.iter().map(option).collect();
                Some(TurnEvent::Notice(format!("the agent's options are now {}", options.join(", "))))
            }
            SessionUpdate::SessionInfoUpdate(info) => {
                let title = info.title.value().cloned()?;
                let is_new = self.title.as_ref() != Some(&title);
                self.title = Some(title.clone());
                is_new.then(|| TurnEvent::Notice(format!("the agent calls this conversation {title:?}")))
            }
            // What was asked, said again; and tokens, which are counted at the end.
            SessionUpdate::UserMessageChunk(_) | SessionUpdate::UsageUpdate(_) => None,
            other => {
                let kind = serde_json::to_value(&other).ok();
                let kind = kind.as_ref().and_then(|value| value.get("sessionUpdate")).and_then(Value::as_str);
                self.unknown(kind.unwrap_or("none").to_owned())
            }
        }
    }

    fn unknown(&mut self, kind: String) -> Option<TurnEvent> {
        let notice = format!("the agent sent an update of the unknown kind {kind:?}");
        // A bound, should each be of another kind.
        let is_new = self.unknown.len() < 16 && self.unknown.insert(kind);
        is_new.then_some(TurnEvent::Notice(notice))
    }

    fn call_update(
        &mut self,
        id: &str,
        fields: ToolCallUpdateFields,
        name: Option<String>,
    ) -> Option<TurnEvent> {
        if self.stale.contains(id) {
            return None;
        }
        self.called = true;
        if self.calls.len() >= CALLS_MAX && !self.calls.contains_key(id) {
            self.calls.clear();
        }
        let is_new = !self.calls.contains_key(id);
        let call = self.calls.entry(id.to_owned()).or_insert_with(|| blank(id));
        fill(call, fields, name);
        let call = call.clone();
        Some(if is_new { TurnEvent::ToolCall(call) } else { TurnEvent::ToolUpdate(call) })
    }

    fn keep(&mut self, text: &str) {
        self.text_bytes += text.len();
        if self.text_bytes <= KEPT_TEXT_BYTES {
            self.text.push_str(text);
        }
    }
}

fn blank(id: &str) -> ToolCall {
    ToolCall {
        call_id: id.to_owned(),
        tool: String::new(),
        status: ToolStatus::Pending,
        title: None,
        input: None,
        output: None,
        locations: Vec::new(),
        diffs: Vec::new(),
    }
}

/// What an update says is new; what it does not name stays.
fn fill(call: &mut ToolCall, fields: ToolCallUpdateFields, name: Option<String>) {
    if let Some(name) = name {
        call.tool = name;
    } else if call.tool.is_empty() {
        call.tool = fields.kind.map_or("tool", kind_word).to_owned();
    }
    if let Some(status) = fields.status {
        call.status = match status {
            ToolCallStatus::InProgress => ToolStatus::Running,
            ToolCallStatus::Completed => ToolStatus::Completed,
            ToolCallStatus::Failed => ToolStatus::Failed,
            _ => ToolStatus::Pending,
        };
    }
    if let Some(title) = fields.title.filter(|title| !title.is_empty()) {
        call.title = Some(title);
    }
    if let Some(input) = fields.raw_input.filter(|input| *input != serde_json::json!({})) {
        call.input = Some(input);
    }
    if let Some(locations) = fields.locations.filter(|locations| !locations.is_empty()) {
        call.locations = locations.into_iter().map(location).collect();
    }
    let mut texts = Vec::new();
    let mut diffs = Vec::new();
    for content in fields.content.unwrap_or_default() {
        match content {
            ToolCallContent::Content(content) => texts.push(text_of(content.content)),
            ToolCallContent::Diff(diff) => diffs.push(ToolDiff {
                path: diff.path.display().to_string(),
                old: diff.old_text,
                new: diff.new_text,
            }),
            _ => {}
        }
    }
    if !diffs.is_empty() {
        call.diffs = diffs;
    }
    if !texts.is_empty() {
        call.output = Some(texts.join("\n"));
    } else if let Some(output) = fields.raw_output.as_ref().and_then(output_text) {
        call.output = Some(output);
    }
}

/// What a tool gave back, in the shapes that agents use.
fn output_text(raw: &Value) -> Option<String> {
    match raw {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        Value::Object(fields) => {
            let known = ["formatted_output", "aggregated_output", "output", "error"];
            let said = known.iter().find_map(|key| fields.get(*key)?.as_str());
            Some(said.map_or_else(|| raw.to_string(), str::to_owned))
        }
        other => Some(other.to_string()),
    }
}

fn location(location: ToolCallLocation) -> String {
    let path = location.path.display();
    location.line.map_or_else(|| path.to_string(), |line| format!("{path}:{line}"))
}

fn tool_name(meta: Option<&serde_json::Map<String, Value>>) -> Option<String> {
    Some(meta?.get("claudeCode")?.get("toolName")?.as_str()?.to_owned())
}

/// The word of a kind of tool, where the agent gives the tool no name.
pub(super) fn kind_word(kind: ToolKind) -> &'static str {
    match kind {
        ToolKind::Read => "read",
        ToolKind::Edit => "edit",
        ToolKind::Delete => "delete",
        ToolKind::Move => "move",
        ToolKind::Search => "search",
        ToolKind::Execute => "execute",
        ToolKind::Think => "think",
        ToolKind::Fetch => "fetch",
        ToolKind::SwitchMode => "switch_mode",
        _ => "tool",
    }
}

fn plan_word(status: &PlanEntryStatus) -> &'static str {
    match status {
        PlanEntryStatus::InProgress => "in_progress",
        PlanEntryStatus::Completed => "completed",
        _ => "pending",
    }
}

fn text_of(content: ContentBlock) -> String {
    match content {
        ContentBlock::Text(text) => text.text,
        ContentBlock::ResourceLink(link) => link.uri,
        ContentBlock::Resource(resource) => match resource.resource {
            EmbeddedResourceResource::TextResourceContents(text) => text.text,
            _ => "[a resource that is no text]".to_owned(),
        },
        ContentBlock::Image(_) => "[an image]".to_owned(),
        ContentBlock::Audio(_) => "[a sound]".to_owned(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn said(update: Value) -> Said {
        match serde_json::from_value(update.clone()) {
            Ok(update) => Said::Update(Box::new(update)),
            Err(_) => Said::Unknown(update["sessionUpdate"].as_str().unwrap_or("none").to_owned()),
        }
    }

    #[test]
    fn a_call_keeps_what_an_update_does_not_name() {
        let mut turn = Translation::default();
        turn.take(said(json!({"sessionUpdate": "tool_call", "toolCallId": "c", "title": "Write w.txt", "kind": "edit",
            "status": "pending", "_meta": {"claudeCode": {"toolName": "Write"}}, "rawInput": {"file_path": "w.txt"},
            "content": [{"type": "diff", "path": "/w/w.txt", "oldText": null, "newText": "x"}],
            "locations": [{"path": "/w/w.txt", "line": 3}]})));
        let Some(TurnEvent::ToolUpdate(call)) = turn.take(said(json!({"sessionUpdate": "tool_call_update",
            "toolCallId": "c", "status": "completed", "rawOutput": {"output": "ok"}})))
        else {
            panic!("an update of a known call")
        };
        assert_eq!(
            (call.tool.as_str(), call.status, call.output.as_deref()),
            ("Write", ToolStatus::Completed, Some("ok"))
        );
        assert_eq!(call.title.as_deref(), Some("Write w.txt"));
        assert_eq!(call.locations, ["/w/w.txt:3"]);
        assert_eq!(call.diffs[0].new, "x");
        assert!(turn.open_calls().is_empty());
    }

    #[test]
    fn an_update_of_a_call_that_nobody_announced_announces_it_and_one_of_a_cancelled_turn_is_dropped() {
        let mut turn = Translation::new(HashSet::from(["old".to_owned()]), None);
        let update = |id: &str| {
            said(json!({"sessionUpdate": "tool_call_update", "toolCallId": id, "kind": "execute",
            "status": "in_progress"}))
        };
        assert_eq!(turn.take(update("old")), None);
        assert!(
            matches!(turn.take(update("new")), Some(TurnEvent::ToolCall(call)) if call.tool == "execute")
        );
        assert_eq!(turn.open_calls(), HashSet::from(["new".to_owned()]));
    }

    #[test]
    fn an_unknown_kind_is_told_once() {
        let mut turn = Translation::default();
        let odd = || said(json!({"sessionUpdate": "quantum_update", "x": 1}));
        assert!(matches!(turn.take(odd()), Some(TurnEvent::Notice(text)) if text.contains("quantum_update")));
        assert_eq!(turn.take(odd()), None);
    }

    #[test]
    fn only_a_short_answer_without_tools_may_be_an_error() {
        let text = |text: &str| {
            said(json!({"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": text}}))
        };
        let mut turn = Translation::default();
        turn.take(text("API Error: "));
        turn.take(text("429"));
        assert_eq!(turn.short_answer(), Some("API Error: 429"));
        turn.take(text(&"x".repeat(KEPT_TEXT_BYTES)));
        assert_eq!(turn.short_answer(), None);
    }
}
