//! `OpenAI` Responses: the conversation. Pure; total over any JSON. How it is answered stands in [`answer`].

mod answer;

pub(super) use answer::{error, frames, overflow, whole};

use crate::scripted_model::conversation::{Conversation, Role, Turn, flat, list};
use crate::scripted_model::tools::{Kind, Offered, Tool};
use serde_json::{Value, json};

pub(super) fn conversation(body: &Value) -> Conversation {
    let schema = &body["text"]["format"]["schema"];
    let system = body["instructions"].as_str().map(|text| Turn { role: Role::System, text: text.to_owned() });
    let input = match &body["input"] {
        Value::String(text) => vec![Turn { role: Role::User, text: text.clone() }],
        items => list(items).iter().flat_map(turns).collect(),
    };
    let mut tools = Offered::new();
    offer(&mut tools, &body["tools"]);
    // Newer models of Codex are told of their tools within the input.
    for item in list(&body["input"]).iter().filter(|item| item["type"] == "additional_tools") {
        offer(&mut tools, &item["tools"]);
    }
    Conversation {
        model: body["model"].as_str().unwrap_or("?").to_owned(),
        stream: body["stream"].as_bool().unwrap_or(false),
        response_schema: (!schema.is_null()).then(|| schema.clone()),
        turns: system.into_iter().chain(input).collect(),
        tools,
    }
}

fn turns(item: &Value) -> Vec<Turn> {
    let kind = item["type"].as_str().unwrap_or("message");
    if kind == "message" {
        let role = match item["role"].as_str() {
            Some("user") => Role::User,
            Some("assistant") => Role::Assistant,
            _ => Role::System,
        };
        return match &item["content"] {
            // One turn a part: reminders are parts beside the prompt.
            Value::Array(parts) if role == Role::User => {
                parts.iter().map(|part| Turn { role, text: flat(part) }).collect()
            }
            content => vec![Turn { role, text: flat(content) }],
        };
    }
    if kind.ends_with("_call_output") {
        return vec![Turn { role: Role::Tool, text: flat(&item["output"]) }];
    }
    if kind.ends_with("_call") {
        let call = json!({"name": item["name"], "arguments": item["arguments"], "input": item["input"]});
        return vec![Turn { role: Role::Call, text: call.to_string() }];
    }
    Vec::new()
}

fn offer(offered: &mut Offered, tools: &Value) {
    for tool in list(tools) {
        let schema = tool["parameters"].clone();
        match (tool["type"].as_str().unwrap_or_default(), tool["name"].as_str()) {
            ("namespace", _) => offer(offered, &tool["tools"]),
            ("local_shell", _) => {
                let schema = json!({"properties": {"command": {"type": "array"}}});
                offered.insert("local_shell".to_owned(), Tool { kind: Kind::LocalShell, schema });
            }
            ("custom", Some(name)) => {
                offered.insert(name.to_owned(), Tool { kind: Kind::Custom, schema });
            }
            (_, Some(name)) => {
                offered.insert(name.to_owned(), Tool { kind: Kind::Function, schema });
            }
            // What the provider runs by itself, such as a web search.
            (_, None) => {}
        }
    }
}
