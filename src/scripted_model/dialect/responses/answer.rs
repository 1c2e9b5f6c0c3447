//! Answers in the words of `OpenAI` Responses. Pure; sends nothing.

use crate::scripted_model::dialect::{Answer, Frame, Refusal, Tokens, Whole, typed_event};
use crate::scripted_model::directives::{Finish, Step};
use crate::scripted_model::tools::{Call, Kind};
use serde_json::{Value, json};
use std::collections::VecDeque;

/// The kind of the item that is open.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Item {
    Text,
    Reasoning,
}

struct Stream<'a> {
    answer: &'a Answer,
    frames: VecDeque<Frame>,
    /// Number of the next event.
    sequence: usize,
    /// What was said in the item that is open.
    open: Option<(Item, String)>,
    /// The items that are done.
    items: Vec<Value>,
}

impl Stream<'_> {
    fn send(&mut self, kind: &str, mut fields: Value) {
        fields["type"] = json!(kind);
        fields["sequence_number"] = json!(self.sequence);
        self.sequence += 1;
        self.frames.push_back(typed_event(&fields));
    }

    fn id(&self, prefix: &str) -> String {
        format!("{prefix}_{}_{}", self.answer.id, self.items.len())
    }

    fn say(&mut self, item: Item, said: &str) {
        if self.open.as_ref().is_none_or(|(open, _)| *open != item) {
            self.close();
            self.open = Some((item, String::new()));
            let at = self.items.len();
            match item {
                Item::Text => {
                    let id = self.id("msg");
                    let empty = message(&id, "in_progress", json!([]));
                    self.send("response.output_item.added", json!({"output_index": at, "item": empty}));
                    let part =
                        json!({"item_id": id, "output_index": at, "content_index": 0, "part": text_part("")});
                    self.send("response.content_part.added", part);
                }
                Item::Reasoning => {
                    let id = self.id("rs");
                    let empty = json!({"type": "reasoning", "id": id, "summary": []});
                    self.send("response.output_item.added", json!({"output_index": at, "item": empty}));
                    let part = json!({"type": "summary_text", "text": ""});
                    let part = json!({"item_id": id, "output_index": at, "summary_index": 0, "part": part});
                    self.send("response.reasoning_summary_part.added", part);
                }
            }
        }
        if let Some((_, so_far)) = &mut self.open {
            so_far.push_str(said);
        }
        let at = self.items.len();
        match item {
            Item::Text => {
                let id = self.id("msg");
                let delta = json!({"item_id": id, "output_index": at, "content_index": 0, "delta": said});
                self.send("response.output_text.delta", delta);
            }
            Item::Reasoning => {
                let id = self.id("rs");
                let delta = json!({"item_id": id, "output_index": at, "summary_index": 0, "delta": said});
                self.send("response.reasoning_summary_text.delta", delta);
            }
        }
    }

    fn close(&mut self) {
        let Some((item, said)) = self.open.take() else { return };
        let at = self.items.len();
        let done = match item {
            Item::Text => {
                let (id, part) = (self.id("msg"), text_part(&said));
                let place = json!({"item_id": id, "output_index": at, "content_index": 0});
                self.send("response.output_text.done", with(&place, "text", json!(said)));
                self.send("response.content_part.done", with(&place, "part", part.clone()));
                message(&id, "completed", json!([part]))
            }
            Item::Reasoning => {
                let (id, part) = (self.id("rs"), json!({"type": "summary_text", "text": said}));
                let place = json!({"item_id": id, "output_index": at, "summary_index": 0});
                self.send("response.reasoning_summary_text.done", with(&place, "text", json!(said)));
                self.send("response.reasoning_summary_part.done", with(&place, "part", part.clone()));
                json!({"type": "reasoning", "id": id, "summary": [part], "encrypted_content": "c2NyaXB0ZWQ="})
            }
        };
        self.done(done);
    }

    fn call(&mut self, call: &Call) {
        self.close();
        let at = self.items.len();
        let done = call_item(self.answer, at, call);
        let mut begun = done.clone();
        begun["status"] = json!("in_progress");
        let place = json!({"item_id": done["id"], "output_index": at});
        match call.kind {
            Kind::Function => {
                begun["arguments"] = json!("");
                let arguments = &done["arguments"];
                self.send("response.output_item.added", json!({"output_index": at, "item": begun}));
                self.send("response.function_call_arguments.delta", with(&place, "delta", arguments.clone()));
                self.send(
                    "response.function_call_arguments.done",
                    with(&place, "arguments", arguments.clone()),
                );
            }
            Kind::Custom => {
                begun["input"] = json!("");
                let input = &done["input"];
                self.send("response.output_item.added", json!({"output_index": at, "item": begun}));
                self.send("response.custom_tool_call_input.delta", with(&place, "delta", input.clone()));
                self.send("response.custom_tool_call_input.done", with(&place, "input", input.clone()));
            }
            Kind::LocalShell => {
                self.send("response.output_item.added", json!({"output_index": at, "item": begun}));
            }
        }
        self.done(done);
    }

    fn done(&mut self, item: Value) {
        self.send("response.output_item.done", json!({"output_index": self.items.len(), "item": item}));
        self.items.push(item);
    }
}

/// Usage comes with the end.
pub(in crate::scripted_model::dialect) fn frames(answer: &Answer, steps: Vec<Step>) -> VecDeque<Frame> {
    let mut stream = Stream { answer, frames: VecDeque::new(), sequence: 0, open: None, items: Vec::new() };
    for kind in ["response.created", "response.in_progress"] {
        stream.send(kind, json!({"response": response(answer, "in_progress", &[])}));
    }
    let (mut tokens, mut finish) = (Tokens::default(), Finish::End);
    for step in steps {
        tokens.count(&step);
        match step {
            Step::Think(said) => stream.say(Item::Reasoning, &said),
            Step::Text(said) => stream.say(Item::Text, &said),
            Step::Call(call) => stream.call(&call),
            Step::Pause(pause) => stream.frames.push_back(Frame::Pause(pause)),
            Step::Hang => stream.frames.push_back(Frame::Hang),
            Step::Drop => stream.frames.push_back(Frame::Drop),
            Step::Stop(reason) => finish = reason,
        }
    }
    stream.close();
    let (kind, ended) = ended(answer, finish, tokens, &stream.items);
    stream.send(kind, json!({"response": ended}));
    stream.frames
}

pub(in crate::scripted_model::dialect) fn whole(answer: &Answer, whole: Whole) -> Value {
    let mut items = Vec::new();
    if !whole.thought.is_empty() {
        let part = json!({"type": "summary_text", "text": whole.thought});
        items.push(json!({"type": "reasoning", "id": format!("rs_{}_0", answer.id), "summary": [part]}));
    }
    if !whole.text.is_empty() {
        let id = format!("msg_{}_{}", answer.id, items.len());
        items.push(message(&id, "completed", json!([text_part(&whole.text)])));
    }
    for call in &whole.calls {
        items.push(call_item(answer, items.len(), call));
    }
    ended(answer, whole.finish, whole.tokens, &items).1
}

pub(in crate::scripted_model::dialect) fn error(refusal: Refusal<'_>) -> Value {
    let (kind, code) = match refusal.status {
        _ if refusal.too_long => ("invalid_request_error", "context_length_exceeded".to_owned()),
        400 => ("invalid_request_error", "invalid_request".to_owned()),
        401 => ("authentication_error", "invalid_api_key".to_owned()),
        429 => ("rate_limit_error", "rate_limit_exceeded".to_owned()),
        500.. => ("server_error", refusal.status.to_string()),
        _ => ("api_error", refusal.status.to_string()),
    };
    json!({"error": {"type": kind, "message": refusal.message, "code": code, "param": null}})
}

/// A stream learns within itself that its conversation is too long: the provider has accepted it by then.
pub(in crate::scripted_model::dialect) fn overflow(answer: &Answer, refusal: Refusal<'_>) -> VecDeque<Frame> {
    let mut stream = Stream { answer, frames: VecDeque::new(), sequence: 0, open: None, items: Vec::new() };
    stream.send("response.created", json!({"response": response(answer, "in_progress", &[])}));
    let mut failed = response(answer, "failed", &[]);
    failed["error"] = json!({"code": "context_length_exceeded", "message": refusal.message});
    stream.send("response.failed", json!({"response": failed}));
    stream.frames
}

/// The last event's name, and the response as it ended.
fn ended(answer: &Answer, finish: Finish, tokens: Tokens, items: &[Value]) -> (&'static str, Value) {
    let (kind, status) = match finish {
        Finish::End | Finish::Tool => ("response.completed", "completed"),
        Finish::Length => ("response.incomplete", "incomplete"),
    };
    let mut ended = response(answer, status, items);
    ended["usage"] = json!({
        "input_tokens": answer.input_tokens,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": tokens.output,
        "output_tokens_details": {"reasoning_tokens": tokens.reasoning},
        "total_tokens": answer.input_tokens + tokens.output,
    });
    if finish == Finish::Length {
        ended["incomplete_details"] = json!({"reason": "max_output_tokens"});
    }
    (kind, ended)
}

fn response(answer: &Answer, status: &str, items: &[Value]) -> Value {
    json!({
        "id": format!("resp_{}", answer.id),
        "object": "response",
        "created_at": 1,
        "model": answer.model,
        "status": status,
        "output": items,
        "parallel_tool_calls": false,
        "tool_choice": "auto",
        "tools": [],
    })
}

fn call_item(answer: &Answer, at: usize, call: &Call) -> Value {
    let call_id = format!("call_{}_{at}", answer.id);
    let (kind, prefix) = match call.kind {
        Kind::Function => ("function_call", "fc"),
        Kind::Custom => ("custom_tool_call", "ctc"),
        Kind::LocalShell => ("local_shell_call", "lsh"),
    };
    let id = format!("{prefix}_{}_{at}", answer.id);
    let mut item = json!({"type": kind, "id": id, "call_id": call_id, "status": "completed"});
    match call.kind {
        Kind::Function => {
            item["name"] = json!(call.name);
            item["arguments"] = json!(call.arguments.to_string());
        }
        Kind::Custom => {
            item["name"] = json!(call.name);
            item["input"] = call.arguments.clone();
        }
        Kind::LocalShell => {
            item["action"] = json!({"type": "exec", "command": call.arguments["command"], "env": {}});
        }
    }
    item
}

fn message(id: &str, status: &str, content: Value) -> Value {
    json!({"type": "message", "id": id, "role": "assistant", "status": status, "content": content})
}

fn text_part(text: &str) -> Value {
    json!({"type": "output_text", "text": text, "annotations": []})
}

fn with(place: &Value, name: &str, value: Value) -> Value {
    let mut all = place.clone();
    all[name] = value;
    all
}
