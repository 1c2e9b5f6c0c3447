//! `OpenAI` chat/completions. Pure; total over any JSON.

use super::{Answer, Frame, Refusal, Tokens, Whole, event, halves};
use crate::scripted_model::conversation::{Conversation, Role, Turn, flat, list};
use crate::scripted_model::directives::{Finish, Step};
use crate::scripted_model::tools::{Kind, Tool};
use serde_json::{Value, json};
use std::collections::VecDeque;

pub(super) fn conversation(body: &Value) -> Conversation {
    let schema = &body["response_format"]["json_schema"]["schema"];
    Conversation {
        model: body["model"].as_str().unwrap_or("?").to_owned(),
        stream: body["stream"].as_bool().unwrap_or(false),
        response_schema: (!schema.is_null()).then(|| schema.clone()),
        turns: list(&body["messages"]).iter().flat_map(turns).collect(),
        tools: list(&body["tools"])
            .iter()
            .filter_map(|tool| {
                let function = tool.get("function").unwrap_or(tool);
                let schema = function["parameters"].clone();
                Some((function["name"].as_str()?.to_owned(), Tool { kind: Kind::Function, schema }))
            })
            .collect(),
    }
}

fn turns(message: &Value) -> Vec<Turn> {
    let content = &message["content"];
    match message["role"].as_str().unwrap_or_default() {
        "assistant" => {
            let calls = list(&message["tool_calls"]).iter();
            let calls = calls.map(|call| Turn { role: Role::Call, text: call["function"].to_string() });
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

/// Usage comes in the last chunk.
pub(super) fn frames(answer: &Answer, steps: Vec<Step>) -> VecDeque<Frame> {
    let (mut tokens, mut calls) = (Tokens::default(), 0);
    let mut frames = VecDeque::from([delta(answer, json!({"role": "assistant", "content": ""}), None)]);
    for step in steps {
        tokens.count(&step);
        match step {
            Step::Think(text) => frames.push_back(delta(answer, json!({"reasoning_content": text}), None)),
            Step::Text(text) => frames.push_back(delta(answer, json!({"content": text}), None)),
            Step::Call(call) => {
                let function = json!({"name": call.name, "arguments": ""});
                let id = call_id(answer, calls);
                let head = json!({"index": calls, "id": id, "type": "function", "function": function});
                frames.push_back(delta(answer, json!({"tool_calls": [head]}), None));
                for half in halves(&call.arguments.to_string()) {
                    let part = json!({"index": calls, "function": {"arguments": half}});
                    frames.push_back(delta(answer, json!({"tool_calls": [part]}), None));
                }
                calls += 1;
            }
            Step::Pause(pause) => frames.push_back(Frame::Pause(pause)),
            Step::Hang => frames.push_back(Frame::Hang),
            Step::Drop => frames.push_back(Frame::Drop),
            Step::Stop(finish) => frames.push_back(delta(answer, json!({}), Some(finish))),
        }
    }
    let mut last = object(answer, "chat.completion.chunk", json!([]));
    last["usage"] = usage(answer, tokens);
    frames.push_back(event(&last.to_string()));
    frames.push_back(event("[DONE]"));
    frames
}

pub(super) fn whole(answer: &Answer, whole: Whole) -> Value {
    let mut message = json!({"role": "assistant", "content": whole.text});
    if !whole.thought.is_empty() {
        message["reasoning_content"] = json!(whole.thought);
    }
    if !whole.calls.is_empty() {
        let call = |(n, call): (usize, &super::Call)| {
            let function = json!({"name": call.name, "arguments": call.arguments.to_string()});
            json!({"id": call_id(answer, n), "type": "function", "function": function})
        };
        message["tool_calls"] = whole.calls.iter().enumerate().map(call).collect();
    }
    let choice = json!([{"index": 0, "message": message, "finish_reason": word(whole.finish)}]);
    let mut body = object(answer, "chat.completion", choice);
    body["usage"] = usage(answer, whole.tokens);
    body
}

pub(super) fn error(refusal: Refusal<'_>) -> Value {
    let kind = match refusal.status {
        401 => "authentication_error",
        429 => "rate_limit_error",
        529 => "overloaded_error",
        _ => "api_error",
    };
    json!({"error": {"type": kind, "message": refusal.message, "code": refusal.status.to_string()}})
}

fn delta(answer: &Answer, delta: Value, finish: Option<Finish>) -> Frame {
    let choice = json!([{"index": 0, "delta": delta, "finish_reason": finish.map(word)}]);
    event(&object(answer, "chat.completion.chunk", choice).to_string())
}

fn object(answer: &Answer, object: &str, choices: Value) -> Value {
    let id = format!("chatcmpl-{}", answer.id);
    json!({"id": id, "object": object, "created": 1, "model": answer.model, "choices": choices})
}

fn call_id(answer: &Answer, index: usize) -> String {
    format!("call_{}_{index}", answer.id)
}

fn usage(answer: &Answer, tokens: Tokens) -> Value {
    json!({
        "prompt_tokens": answer.input_tokens,
        "completion_tokens": tokens.output,
        "total_tokens": answer.input_tokens + tokens.output,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": tokens.reasoning},
    })
}

fn word(finish: Finish) -> &'static str {
    match finish {
        Finish::End => "stop",
        Finish::Tool => "tool_calls",
        Finish::Length => "length",
    }
}
