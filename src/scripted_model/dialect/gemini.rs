//! Gemini generateContent. Pure; total over any JSON.

use super::{Answer, Frame, Refusal, Tokens, Whole, event};
use crate::scripted_model::conversation::{Conversation, Role, Turn, flat, list};
use crate::scripted_model::directives::{Finish, Step};
use crate::scripted_model::tools::{Call, Kind, Tool};
use serde_json::{Value, json};
use std::collections::VecDeque;

/// Model and stream are told by the path: see [`super::Dialect::Gemini`].
pub(super) fn conversation(body: &Value) -> Conversation {
    let settings = &body["generationConfig"];
    let schemas = [&settings["responseJsonSchema"], &settings["responseSchema"]];
    let system = &body["systemInstruction"];
    let system = (!system.is_null()).then(|| Turn { role: Role::System, text: flat(&system["parts"]) });
    let declared = list(&body["tools"]).iter().flat_map(|tool| list(&tool["functionDeclarations"]));
    Conversation {
        model: "?".to_owned(),
        stream: false,
        response_schema: schemas.into_iter().find(|schema| !schema.is_null()).cloned(),
        turns: system.into_iter().chain(list(&body["contents"]).iter().flat_map(turns)).collect(),
        tools: declared
            .filter_map(|function| {
                let schema = function.get("parametersJsonSchema").unwrap_or(&function["parameters"]).clone();
                Some((function["name"].as_str()?.to_owned(), Tool { kind: Kind::Function, schema }))
            })
            .collect(),
    }
}

fn turns(content: &Value) -> Vec<Turn> {
    let role = if content["role"] == "model" { Role::Assistant } else { Role::User };
    list(&content["parts"])
        .iter()
        .filter_map(|part| {
            if let Some(result) = part.get("functionResponse") {
                return Some(Turn { role: Role::Tool, text: result["response"].to_string() });
            }
            if let Some(call) = part.get("functionCall") {
                return Some(Turn { role: Role::Call, text: call.to_string() });
            }
            let text = part["text"].as_str().filter(|_| part["thought"] != true)?;
            Some(Turn { role, text: text.to_owned() })
        })
        .collect()
}

/// Every chunk carries the usage so far.
pub(super) fn frames(answer: &Answer, steps: Vec<Step>) -> VecDeque<Frame> {
    let (mut tokens, mut calls) = (Tokens::default(), 0);
    let mut frames = VecDeque::new();
    for step in steps {
        tokens.count(&step);
        let chunk = |part: Value, finish: Option<Finish>| {
            event(&chunk(answer, &json!([part]), finish, tokens).to_string())
        };
        frames.push_back(match step {
            Step::Think(said) => chunk(json!({"text": said, "thought": true}), None),
            Step::Text(said) => chunk(json!({"text": said}), None),
            Step::Call(call) => {
                calls += 1;
                chunk(function_call(answer, calls, &call), None)
            }
            Step::Pause(pause) => Frame::Pause(pause),
            Step::Hang => Frame::Hang,
            Step::Drop => Frame::Drop,
            Step::Stop(finish) => chunk(json!({"text": ""}), Some(finish)),
        });
    }
    frames
}

pub(super) fn whole(answer: &Answer, whole: Whole) -> Value {
    let thought = (!whole.thought.is_empty()).then(|| json!({"text": whole.thought, "thought": true}));
    let calls = whole.calls.iter().enumerate().map(|(n, call)| function_call(answer, n + 1, call));
    let parts = thought.into_iter().chain([json!({"text": whole.text})]).chain(calls).collect();
    chunk(answer, &parts, Some(whole.finish), whole.tokens)
}

pub(super) fn error(refusal: Refusal<'_>) -> Value {
    let status = match refusal.status {
        400 => "INVALID_ARGUMENT",
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        429 => "RESOURCE_EXHAUSTED",
        503 => "UNAVAILABLE",
        504 => "DEADLINE_EXCEEDED",
        _ => "INTERNAL",
    };
    let mut error = json!({"code": refusal.status, "message": refusal.message, "status": status});
    if refusal.status == 429 {
        let kind = "type.googleapis.com/google.rpc.RetryInfo";
        error["details"] = json!([{"@type": kind, "retryDelay": "1s"}]);
    }
    json!({"error": error})
}

fn chunk(answer: &Answer, parts: &Value, finish: Option<Finish>, tokens: Tokens) -> Value {
    let mut candidate = json!({"content": {"role": "model", "parts": parts}, "index": 0});
    if let Some(finish) = finish {
        candidate["finishReason"] = json!(match finish {
            Finish::End | Finish::Tool => "STOP",
            Finish::Length => "MAX_TOKENS",
        });
    }
    json!({
        "candidates": [candidate],
        "modelVersion": answer.model,
        "responseId": answer.id,
        "usageMetadata": {
            "promptTokenCount": answer.input_tokens,
            "candidatesTokenCount": tokens.output - tokens.reasoning,
            "thoughtsTokenCount": tokens.reasoning,
            "totalTokenCount": answer.input_tokens + tokens.output,
        },
    })
}

fn function_call(answer: &Answer, index: usize, call: &Call) -> Value {
    let id = format!("fc_{}_{index}", answer.id);
    json!({"functionCall": {"name": call.name, "args": call.arguments, "id": id}})
}
