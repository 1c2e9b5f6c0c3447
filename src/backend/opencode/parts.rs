//! Parts of opencode's messages in the words of the house. Pure and total.

use super::wire::Part;
use crate::domain::turn::{ToolCall, ToolStatus, TurnEvent};
use crate::domain::usage::Usage;

pub(super) fn say(reasoning: bool, text: &str) -> Vec<TurnEvent> {
    match (text.is_empty(), reasoning) {
        (true, _) => Vec::new(),
        (false, true) => vec![TurnEvent::Reasoning(text.to_owned())],
        (false, false) => vec![TurnEvent::Text(text.to_owned())],
    }
}

pub(super) fn tool_call(part: &Part, prefix: Option<&str>) -> ToolCall {
    let state = &part.state;
    let status = match state.status.as_str() {
        "completed" => ToolStatus::Completed,
        "error" => ToolStatus::Failed,
        "running" => ToolStatus::Running,
        _ => ToolStatus::Pending,
    };
    let title = state.title.clone().filter(|title| !title.is_empty());
    let input = state.input.clone().filter(|input| input.as_object().is_none_or(|fields| !fields.is_empty()));
    ToolCall {
        call_id: part.call_id.clone(),
        tool: part.tool.clone(),
        status,
        title: match prefix {
            Some(prefix) => Some(format!("{prefix}{}", title.as_deref().unwrap_or(&part.tool))),
            None => title,
        },
        input: input.filter(|input| !input.is_null()),
        output: state.output.clone().or_else(|| state.error.clone()),
        locations: Vec::new(),
        diffs: Vec::new(),
    }
}

pub(super) const fn rank(status: ToolStatus) -> u8 {
    match status {
        ToolStatus::Pending => 0,
        ToolStatus::Running => 1,
        ToolStatus::Completed | ToolStatus::Failed => 2,
    }
}

pub(super) fn usage(part: &Part) -> Usage {
    // opencode counts in floating point; tokens are whole and far below 2^53.
    let whole = |tokens: f64| tokens.max(0.0).round() as i64;
    let tokens = &part.tokens;
    Usage {
        input_tokens: whole(tokens.input),
        output_tokens: whole(tokens.output) + whole(tokens.reasoning),
        reasoning_tokens: whole(tokens.reasoning),
        cache_read_tokens: whole(tokens.cache.read),
        cache_write_tokens: whole(tokens.cache.write),
        cost_usd: part.cost.max(0.0),
    }
}
