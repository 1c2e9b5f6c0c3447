//! Anthropic Messages. Pure; total over any JSON.

use super::{Answer, Frame, Refusal, Tokens, Whole, halves, typed_event};
use crate::scripted_model::conversation::{Conversation, Role, Turn, flat, list};
use crate::scripted_model::directives::{Finish, Step};
use crate::scripted_model::tools::{Kind, Tool};
use serde_json::{Value, json};
use std::collections::VecDeque;

/// What proves a thought to be the model's: nobody checks ours.
const SIGNATURE: &str = "c2NyaXB0ZWQ=";

pub(super) fn conversation(body: &Value) -> Conversation {
    let schemas = [&body["output_config"]["format"]["schema"], &body["output_format"]["schema"]];
    let system =
        (!body["system"].is_null()).then(|| Turn { role: Role::System, text: flat(&body["system"]) });
    Conversation {
        model: body["model"].as_str().unwrap_or("?").to_owned(),
        stream: body["stream"].as_bool().unwrap_or(false),
        response_schema: schemas.into_iter().find(|schema| !schema.is_null()).cloned(),
        turns: system.into_iter().chain(list(&body["messages"]).iter().flat_map(turns)).collect(),
        tools: list(&body["tools"])
            .iter()
            .filter_map(|tool| {
                let schema = tool["input_schema"].clone();
                Some((tool["name"].as_str()?.to_owned(), Tool { kind: Kind::Function, schema }))
            })
            .collect(),
    }
}

/// One turn a part: a turn that failed is merged with the next one, and reminders are parts beside the prompt.
fn turns(message: &Value) -> Vec<Turn> {
    let role = match message["role"].as_str() {
        Some("assistant") => Role::Assistant,
        Some("user") => Role::User,
        _ => Role::System,
    };
    let Value::Array(parts) = &message["content"] else {
        return vec![Turn { role, text: flat(&message["content"]) }];
    };
    parts
        .iter()
        .filter_map(|part| match part["type"].as_str()? {
            "tool_result" => Some(Turn { role: Role::Tool, text: flat(&part["content"]) }),
            "tool_use" => {
                let call = json!({"name": part["name"], "input": part["input"]});
                Some(Turn { role: Role::Call, text: call.to_string() })
            }
            "text" => Some(Turn { role, text: flat(part) }),
            _ => None,
        })
        .collect()
}

/// The kind of the block that is open.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Block {
    Text,
    Thinking,
}

struct Stream {
    frames: VecDeque<Frame>,
    open: Option<Block>,
    /// Number of the next block.
    next: usize,
}

impl Stream {
    fn send(&mut self, data: &Value) {
        self.frames.push_back(typed_event(data));
    }

    fn say(&mut self, block: Block, said: &str) {
        if self.open != Some(block) {
            self.close();
            let empty = match block {
                Block::Text => json!({"type": "text", "text": ""}),
                Block::Thinking => json!({"type": "thinking", "thinking": "", "signature": ""}),
            };
            self.send(&json!({"type": "content_block_start", "index": self.next, "content_block": empty}));
            self.open = Some(block);
        }
        self.delta(&match block {
            Block::Text => json!({"type": "text_delta", "text": said}),
            Block::Thinking => json!({"type": "thinking_delta", "thinking": said}),
        });
    }

    fn delta(&mut self, delta: &Value) {
        self.send(&json!({"type": "content_block_delta", "index": self.next, "delta": delta}));
    }

    fn close(&mut self) {
        let Some(block) = self.open.take() else { return };
        if block == Block::Thinking {
            self.delta(&json!({"type": "signature_delta", "signature": SIGNATURE}));
        }
        self.end_block();
    }

    fn end_block(&mut self) {
        self.send(&json!({"type": "content_block_stop", "index": self.next}));
        self.next += 1;
    }
}

/// Usage comes with the start and with the end.
pub(super) fn frames(answer: &Answer, steps: Vec<Step>) -> VecDeque<Frame> {
    let mut stream = Stream { frames: VecDeque::new(), open: None, next: 0 };
    let first = message(answer, &json!([]), Value::Null, Tokens { output: 1, reasoning: 0 });
    stream.send(&json!({"type": "message_start", "message": first}));
    stream.send(&json!({"type": "ping"}));
    let (mut tokens, mut finish) = (Tokens::default(), Finish::End);
    for step in steps {
        tokens.count(&step);
        match step {
            Step::Think(said) => stream.say(Block::Thinking, &said),
            Step::Text(said) => stream.say(Block::Text, &said),
            Step::Call(call) => {
                stream.close();
                let id = call_id(answer, stream.next);
                let block = json!({"type": "tool_use", "id": id, "name": call.name, "input": {}});
                stream.send(
                    &json!({"type": "content_block_start", "index": stream.next, "content_block": block}),
                );
                for half in halves(&call.arguments.to_string()) {
                    stream.delta(&json!({"type": "input_json_delta", "partial_json": half}));
                }
                stream.end_block();
            }
            Step::Pause(pause) => stream.frames.push_back(Frame::Pause(pause)),
            Step::Hang => stream.frames.push_back(Frame::Hang),
            Step::Drop => stream.frames.push_back(Frame::Drop),
            Step::Stop(reason) => finish = reason,
        }
    }
    stream.close();
    let delta = json!({"stop_reason": word(finish), "stop_sequence": null});
    let usage = json!({"output_tokens": tokens.output});
    stream.send(&json!({"type": "message_delta", "delta": delta, "usage": usage}));
    stream.send(&json!({"type": "message_stop"}));
    stream.frames
}

pub(super) fn whole(answer: &Answer, whole: Whole) -> Value {
    let thought = (!whole.thought.is_empty())
        .then(|| json!({"type": "thinking", "thinking": whole.thought, "signature": SIGNATURE}));
    let text = (!whole.text.is_empty()).then(|| json!({"type": "text", "text": whole.text}));
    let calls = whole.calls.iter().enumerate().map(|(n, call)| {
        json!({"type": "tool_use", "id": call_id(answer, n), "name": call.name, "input": call.arguments})
    });
    let content = thought.into_iter().chain(text).chain(calls).collect();
    message(answer, &content, json!(word(whole.finish)), whole.tokens)
}

pub(super) fn error(refusal: Refusal<'_>) -> Value {
    let kind = match refusal.status {
        400 => "invalid_request_error",
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        529 => "overloaded_error",
        _ => "api_error",
    };
    json!({"type": "error", "error": {"type": kind, "message": refusal.message}, "request_id": "req_scripted"})
}

fn message(answer: &Answer, content: &Value, stop_reason: Value, tokens: Tokens) -> Value {
    json!({
        "id": format!("msg_{}", answer.id),
        "type": "message",
        "role": "assistant",
        "model": answer.model,
        "content": content,
        "stop_reason": stop_reason,
        "stop_sequence": null,
        "usage": {
            "input_tokens": answer.input_tokens,
            "output_tokens": tokens.output,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
        },
    })
}

fn call_id(answer: &Answer, index: usize) -> String {
    format!("toolu_{}_{index}", answer.id)
}

fn word(finish: Finish) -> &'static str {
    match finish {
        Finish::End => "end_turn",
        Finish::Tool => "tool_use",
        Finish::Length => "max_tokens",
    }
}
