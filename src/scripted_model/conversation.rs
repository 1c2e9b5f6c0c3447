//! A chat/completions request in a neutral form: who said what, and which tools are offered. Pure; total over any JSON.

use serde_json::{Map, Value};

/// Who speaks in a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    System,
    User,
    Assistant,
    /// A tool call that the assistant made.
    Call,
    /// The result of one.
    Tool,
}

impl Role {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Call => "call",
            Self::Tool => "tool",
        }
    }
}

/// One thing that was said.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Turn {
    pub(super) role: Role,
    pub(super) text: String,
}

/// What a request holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Conversation {
    pub(super) model: String,
    pub(super) stream: bool,
    /// The schema that the answer must follow, if there is one.
    pub(super) response_schema: Option<Value>,
    pub(super) turns: Vec<Turn>,
    /// Tool name → JSON schema of its parameters.
    pub(super) tools: Map<String, Value>,
}

impl Conversation {
    pub(super) fn parse(body: &Value) -> Self {
        let messages = body["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
        let tools = body["tools"].as_array().map(Vec::as_slice).unwrap_or_default();
        let schema = &body["response_format"]["json_schema"]["schema"];
        Self {
            model: body["model"].as_str().unwrap_or("?").to_owned(),
            stream: body["stream"].as_bool().unwrap_or(false),
            response_schema: (!schema.is_null()).then(|| schema.clone()),
            turns: messages.iter().flat_map(turns_of).collect(),
            tools: tools
                .iter()
                .filter_map(|tool| {
                    let function = tool.get("function").unwrap_or(tool);
                    Some((function["name"].as_str()?.to_owned(), function["parameters"].clone()))
                })
                .collect(),
        }
    }

    /// Index and cleaned text of the last *true* user turn. Agents put reminders beside the prompt as user turns of
    /// their own: once tool results followed, one without a directive is passed over for the one before it that has one.
    pub(super) fn last_user(&self) -> Option<(usize, String)> {
        let mut fallback = None;
        let mut tool_seen = false;
        for (at, turn) in self.turns.iter().enumerate().rev() {
            tool_seen |= turn.role == Role::Tool;
            if turn.role != Role::User {
                continue;
            }
            let text = clean(&turn.text);
            if text.is_empty() {
                continue;
            }
            if !tool_seen || super::directives::has_directive(&text) {
                return Some((at, text));
            }
            fallback.get_or_insert((at, text));
        }
        fallback
    }

    /// Cleaned user turns before `end`, oldest first.
    pub(super) fn user_turns(&self, end: usize) -> Vec<String> {
        self.turns[..end.min(self.turns.len())]
            .iter()
            .filter(|turn| turn.role == Role::User)
            .map(|turn| clean(&turn.text))
            .filter(|text| !text.is_empty())
            .collect()
    }

    /// Results of the tools that were called since turn `from`.
    pub(super) fn tool_results(&self, from: usize) -> Vec<&str> {
        self.turns[from.min(self.turns.len())..]
            .iter()
            .filter(|turn| turn.role == Role::Tool)
            .map(|turn| turn.text.as_str())
            .collect()
    }
}

fn turns_of(message: &Value) -> Vec<Turn> {
    let content = &message["content"];
    match message["role"].as_str().unwrap_or_default() {
        "assistant" => {
            let calls = message["tool_calls"].as_array().map(Vec::as_slice).unwrap_or_default();
            let calls =
                calls.iter().map(|call| Turn { role: Role::Call, text: call["function"].to_string() });
            let said = flat(content);
            let said =
                (!said.is_empty() || calls.len() == 0).then_some(Turn { role: Role::Assistant, text: said });
            said.into_iter().chain(calls).collect()
        }
        // One turn a part: agents put their reminders into parts of their own.
        "user" => match content {
            Value::Array(parts) => {
                parts.iter().map(|part| Turn { role: Role::User, text: flat(part) }).collect()
            }
            _ => vec![Turn { role: Role::User, text: flat(content) }],
        },
        "tool" | "function" => vec![Turn { role: Role::Tool, text: flat(content) }],
        _ => vec![Turn { role: Role::System, text: flat(content) }],
    }
}

/// The text within content of any shape.
fn flat(content: &Value) -> String {
    match content {
        Value::Null | Value::Bool(_) | Value::Number(_) => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(parts) => {
            parts.iter().map(flat).filter(|text| !text.is_empty()).collect::<Vec<_>>().join("\n")
        }
        Value::Object(part) => part.get("text").or_else(|| part.get("content")).map(flat).unwrap_or_default(),
    }
}

/// What agents and we wrap around a user's words: it holds no directive of the user's.
const WRAPPERS: [&str; 5] =
    ["system-reminder", "environment_context", "user_instructions", "session_context", "conversation_so_far"];

/// The text without its wrappers, one pair of quotes and space around it.
pub(super) fn clean(text: &str) -> String {
    let mut text = text.to_owned();
    for wrapper in WRAPPERS {
        let (open, close) = (format!("<{wrapper}>"), format!("</{wrapper}>"));
        while let Some(from) = text.find(&open) {
            let Some(length) = text[from..].find(&close) else { break };
            text.replace_range(from..from + length + close.len(), "");
        }
    }
    let text = text.trim();
    // A one-shot command line quotes what holds spaces: `opencode run "SAY: hi"` sends the quotes along.
    text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(text).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_reminder_beside_the_prompt_does_not_hide_the_users_directive() {
        let conversation = Conversation::parse(&json!({"messages": [
            {"role": "user", "content": [{"text": "TOOL:bash true"}, {"text": "mind the gap"}]},
            {"role": "assistant", "content": null, "tool_calls": [{"function": {"name": "bash", "arguments": "{}"}}]},
            {"role": "tool", "content": "ok"},
        ]}));
        let roles: Vec<_> = conversation.turns.iter().map(|turn| turn.role).collect();
        assert_eq!(roles, [Role::User, Role::User, Role::Call, Role::Tool]);
        assert_eq!(conversation.last_user(), Some((0, "TOOL:bash true".into())));
        assert_eq!(conversation.tool_results(0), ["ok"]);
    }

    #[test]
    fn wrapped_text_is_no_text_of_the_user() {
        assert_eq!(clean(" <system-reminder>SAY: no\n</system-reminder> SAY: yes "), "SAY: yes");
        assert_eq!(clean("<conversation_so_far>HANG</conversation_so_far>"), "");
        assert_eq!(clean("\"SAY: quoted\""), "SAY: quoted");
        assert_eq!(clean("<conversation_so_far>unclosed"), "<conversation_so_far>unclosed");
    }

    #[test]
    fn any_json_is_a_conversation() {
        for body in
            [json!(null), json!([]), json!({"messages": 7, "tools": {}}), json!({"messages": [null, 3]})]
        {
            let conversation = Conversation::parse(&body);
            assert!(conversation.last_user().is_none(), "{body}");
        }
    }
}
