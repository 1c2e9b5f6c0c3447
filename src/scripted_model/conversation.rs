//! A request in a neutral form: who said what, and which tools are offered. Pure; knows no dialect.

use super::tools::Offered;
use crate::domain::text::{RETOLD, without_elements};
use serde_json::Value;

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
    pub(super) tools: Offered,
}

impl Conversation {
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

/// The text within content of any shape.
pub(super) fn flat(content: &Value) -> String {
    match content {
        Value::Null | Value::Bool(_) | Value::Number(_) => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(parts) => {
            parts.iter().map(flat).filter(|text| !text.is_empty()).collect::<Vec<_>>().join("\n")
        }
        Value::Object(part) => {
            ["text", "content", "output"].iter().find_map(|key| part.get(*key)).map(flat).unwrap_or_default()
        }
    }
}

/// The elements of a JSON list; none when it is no list.
pub(super) fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// What agents and we wrap around a user's words: it holds no directive of the user's.
const WRAPPERS: [&str; 14] = [
    "system-reminder",
    "environment_context",
    "user_instructions",
    "session_context",
    RETOLD,
    "permissions instructions",
    "INSTRUCTIONS",
    "local-command-caveat",
    "skills_instructions",
    "apps_instructions",
    "plugins_instructions",
    "recommended_plugins",
    "ide_opened_file",
    "turn_aborted",
];

/// How agents begin what they ask for themselves although they offer their tools along with it.
const SIDE_QUESTIONS: [&str; 4] = [
    "CRITICAL: Respond with TEXT ONLY.",
    "[SUGGESTION MODE",
    "Managed memory has",
    "Please analyze *only* the content and structure of your immediately preceding",
];

/// True for a question of the agent's own.
pub(super) fn is_side_question(text: &str) -> bool {
    SIDE_QUESTIONS.iter().any(|opening| text.starts_with(opening))
}

/// How agents begin what they note as a user turn although no user said it.
const NOTE: &str = "[Request interrupted by user";

/// The text without its wrappers, one pair of quotes and space around it.
pub(super) fn clean(text: &str) -> String {
    let mut text = text.to_owned();
    for wrapper in WRAPPERS {
        text = without_elements(&text, wrapper);
    }
    let text = text.trim();
    if text.starts_with(NOTE) {
        return String::new();
    }
    // A one-shot command line quotes what holds spaces: `opencode run "SAY: hi"` sends the quotes along.
    text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(text).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reminder_beside_the_prompt_does_not_hide_the_users_directive() {
        let turn = |role, text: &str| Turn { role, text: text.to_owned() };
        let turns = vec![
            turn(Role::User, "TOOL:bash true"),
            turn(Role::User, "mind the gap"),
            turn(Role::Call, "bash"),
            turn(Role::Tool, "ok"),
        ];
        let conversation = Conversation { turns, ..Conversation::default() };
        assert_eq!(conversation.last_user(), Some((0, "TOOL:bash true".into())));
        assert_eq!(conversation.tool_results(0), ["ok"]);
    }

    #[test]
    fn wrapped_text_is_no_text_of_the_user() {
        assert_eq!(clean(" <system-reminder>SAY: no\n</system-reminder> SAY: yes "), "SAY: yes");
        assert_eq!(clean("<conversation_so_far>HANG</conversation_so_far>"), "");
        assert_eq!(clean("[Request interrupted by user for tool use]"), "");
        assert_eq!(clean("\"SAY: quoted\""), "SAY: quoted");
        assert_eq!(clean("<conversation_so_far>unclosed"), "<conversation_so_far>unclosed");
    }
}
