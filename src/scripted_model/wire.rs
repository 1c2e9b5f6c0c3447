//! The OpenAI chat/completions wire: steps in, frames out, streamed or whole. Pure; sends nothing.

use super::directives::{Finish, Step};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::time::Duration;

/// What goes over the wire, and when.
#[derive(Debug, PartialEq)]
pub(super) enum Frame {
    Bytes(String),
    Pause(Duration),
    Hang,
    Drop,
}

/// What all chunks of one answer share.
pub(super) struct Answer {
    pub(super) id: String,
    pub(super) model: String,
    pub(super) input_tokens: usize,
}

impl Answer {
    /// The steps as server-sent events, usage in the last chunk.
    pub(super) fn frames(&self, steps: Vec<Step>) -> VecDeque<Frame> {
        let (mut output, mut reasoning, mut calls) = (0, 0, 0);
        let mut frames = VecDeque::from([self.delta(json!({"role": "assistant", "content": ""}), None)]);
        for step in steps {
            match step {
                Step::Think(text) => {
                    reasoning += 1;
                    output += 1;
                    frames.push_back(self.delta(json!({"reasoning_content": text}), None));
                }
                Step::Text(text) => {
                    output += 1;
                    frames.push_back(self.delta(json!({"content": text}), None));
                }
                Step::Call(call) => {
                    output += 1;
                    let function = json!({"name": call.name, "arguments": ""});
                    let head = json!({"index": calls, "id": self.call_id(calls), "type": "function", "function": function});
                    let arguments = call.arguments.to_string();
                    let (left, right) =
                        arguments.split_at(arguments.floor_char_boundary(arguments.len() / 2));
                    frames.push_back(self.delta(json!({"tool_calls": [head]}), None));
                    for half in [left, right] {
                        let part = json!({"index": calls, "function": {"arguments": half}});
                        frames.push_back(self.delta(json!({"tool_calls": [part]}), None));
                    }
                    calls += 1;
                }
                Step::Pause(pause) => frames.push_back(Frame::Pause(pause)),
                Step::Hang => frames.push_back(Frame::Hang),
                Step::Drop => frames.push_back(Frame::Drop),
                Step::Stop(finish) => frames.push_back(self.delta(json!({}), Some(finish))),
            }
        }
        let mut last = self.object("chat.completion.chunk", json!([]));
        last["usage"] = self.usage(output, reasoning);
        frames.push_back(event(&last.to_string()));
        frames.push_back(event("[DONE]"));
        frames
    }

    /// The steps as one JSON, after all their pauses.
    pub(super) fn whole(&self, steps: Vec<Step>) -> VecDeque<Frame> {
        let (mut text, mut thought, mut calls, mut output, mut reasoning) =
            (String::new(), String::new(), Vec::new(), 0, 0);
        let (mut frames, mut finish) = (VecDeque::new(), Finish::End);
        for step in steps {
            match step {
                Step::Think(said) => {
                    reasoning += 1;
                    output += 1;
                    thought += &said;
                }
                Step::Text(said) => {
                    output += 1;
                    text += &said;
                }
                Step::Call(call) => {
                    output += 1;
                    let function = json!({"name": call.name, "arguments": call.arguments.to_string()});
                    calls.push(
                        json!({"id": self.call_id(calls.len()), "type": "function", "function": function}),
                    );
                }
                Step::Pause(pause) => frames.push_back(Frame::Pause(pause)),
                Step::Hang => frames.push_back(Frame::Hang),
                Step::Drop => frames.push_back(Frame::Drop),
                Step::Stop(reason) => finish = reason,
            }
        }
        let mut message = json!({"role": "assistant", "content": text});
        if !thought.is_empty() {
            message["reasoning_content"] = json!(thought);
        }
        if !calls.is_empty() {
            message["tool_calls"] = json!(calls);
        }
        let choice = json!([{"index": 0, "message": message, "finish_reason": word(finish)}]);
        let mut body = self.object("chat.completion", choice);
        body["usage"] = self.usage(output, reasoning);
        frames.push_back(Frame::Bytes(body.to_string()));
        frames
    }

    fn delta(&self, delta: Value, finish: Option<Finish>) -> Frame {
        let choice = json!([{"index": 0, "delta": delta, "finish_reason": finish.map(word)}]);
        event(&self.object("chat.completion.chunk", choice).to_string())
    }

    fn object(&self, object: &str, choices: Value) -> Value {
        json!({"id": self.id, "object": object, "created": 1, "model": self.model, "choices": choices})
    }

    fn call_id(&self, index: usize) -> String {
        format!("call_{}_{index}", self.id.trim_start_matches("chatcmpl-"))
    }

    fn usage(&self, output: usize, reasoning: usize) -> Value {
        json!({
            "prompt_tokens": self.input_tokens,
            "completion_tokens": output,
            "total_tokens": self.input_tokens + output,
            "prompt_tokens_details": {"cached_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": reasoning},
        })
    }
}

fn word(finish: Finish) -> &'static str {
    match finish {
        Finish::End => "stop",
        Finish::Tool => "tool_calls",
        Finish::Length => "length",
    }
}

fn event(data: &str) -> Frame {
    Frame::Bytes(format!("data: {data}\n\n"))
}
