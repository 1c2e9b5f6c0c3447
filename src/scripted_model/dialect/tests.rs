//! Each dialect with requests as its agents write them, and answers as their libraries read them.

use super::super::conversation::Role;
use super::super::directives::script;
use super::super::tools::Kind;
use super::*;
use serde_json::json;

const DIALECTS: [Dialect; 4] = [Dialect::Chat, Dialect::Responses, Dialect::Messages, Dialect::Gemini];

fn answer() -> Answer {
    Answer { id: "7".into(), model: "m".into(), input_tokens: 40 }
}

/// A second turn: the first had a tool call, and a reminder stands beside the prompt.
fn request(dialect: Dialect, prompt: &str) -> Value {
    let schema = json!({"type": "object", "properties": {"file_path": {"type": "string"}, "content": {"type": "string"}}});
    let reminder = "<system-reminder>HANG</system-reminder>";
    match dialect {
        Dialect::Chat => json!({
            "model": "m", "stream": true,
            "tools": [{"type": "function", "function": {"name": "write", "parameters": schema}}],
            "messages": [
                {"role": "system", "content": "be brief"}, {"role": "user", "content": "SAY: one"},
                {"role": "assistant", "tool_calls": [{"function": {"name": "write", "arguments": "{}"}}]},
                {"role": "tool", "content": "written"}, {"role": "assistant", "content": "one"},
                {"role": "user", "content": [{"text": reminder}, {"text": prompt}]},
            ],
        }),
        Dialect::Responses => json!({
            "model": "m", "stream": true, "instructions": "be brief",
            "tools": [{"type": "function", "name": "write", "parameters": schema}, {"type": "web_search"}],
            "input": [
                {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "SAY: one"}]},
                {"type": "function_call", "name": "write", "arguments": "{}", "call_id": "c"},
                {"type": "function_call_output", "call_id": "c", "output": "written"},
                {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "one"}]},
                {"role": "user", "content": [{"type": "input_text", "text": reminder}, {"type": "input_text", "text": prompt}]},
            ],
        }),
        Dialect::Messages => json!({
            "model": "m", "stream": true, "system": [{"type": "text", "text": "be brief"}],
            "tools": [{"name": "write", "input_schema": schema}],
            "messages": [
                {"role": "user", "content": "SAY: one"},
                {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm"},
                    {"type": "tool_use", "id": "c", "name": "write", "input": {}}]},
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c", "content": "written"}]},
                {"role": "assistant", "content": [{"type": "text", "text": "one"}]},
                {"role": "user", "content": [{"type": "text", "text": reminder}, {"type": "text", "text": prompt}]},
            ],
        }),
        Dialect::Gemini => json!({
            "systemInstruction": {"role": "user", "parts": [{"text": "be brief"}]},
            "tools": [{"functionDeclarations": [{"name": "write", "parametersJsonSchema": schema}]}],
            "contents": [
                {"role": "user", "parts": [{"text": "SAY: one"}]},
                {"role": "model", "parts": [{"text": "hm", "thought": true}, {"functionCall": {"name": "write", "args": {}}}]},
                {"role": "user", "parts": [{"functionResponse": {"name": "write", "response": {"output": "written"}}}]},
                {"role": "model", "parts": [{"text": "one"}]},
                {"role": "user", "parts": [{"text": reminder}, {"text": prompt}]},
            ],
        }),
    }
}

/// The JSON of every event.
fn events(frames: &VecDeque<Frame>) -> Vec<Value> {
    let bytes = |frame: &Frame| if let Frame::Bytes(bytes) = frame { Some(bytes.clone()) } else { None };
    let text: String = frames.iter().filter_map(bytes).collect();
    text.lines().filter_map(|line| serde_json::from_str(line.strip_prefix("data: ")?).ok()).collect()
}

fn play(dialect: Dialect, prompt: &str) -> Vec<Value> {
    let conversation = dialect.conversation(&request(dialect, prompt));
    events(&dialect.frames(&answer(), script(&conversation).steps))
}

fn play_whole(dialect: Dialect, prompt: &str) -> Value {
    let conversation = dialect.conversation(&request(dialect, prompt));
    let frames = dialect.whole(&answer(), script(&conversation).steps);
    let Some(Frame::Bytes(body)) = frames.back() else { panic!("no body: {frames:?}") };
    serde_json::from_str(body).unwrap()
}

/// The texts at a JSON pointer of all events that have one there, joined.
fn joined(events: &[Value], pointer: &str) -> String {
    events.iter().filter_map(|event| event.pointer(pointer)?.as_str()).collect()
}

#[test]
fn a_conversation_is_the_same_in_every_dialect() {
    for dialect in DIALECTS {
        let conversation = dialect.conversation(&request(dialect, "RECALL"));
        let roles: Vec<Role> = conversation.turns.iter().map(|turn| turn.role).collect();
        let wanted =
            [Role::System, Role::User, Role::Call, Role::Tool, Role::Assistant, Role::User, Role::User];
        assert_eq!(roles, wanted, "{dialect:?}");
        assert_eq!(conversation.user_turns(7), ["SAY: one", "RECALL"], "{dialect:?}");
        assert_eq!(conversation.last_user().unwrap().1, "RECALL");
        assert!(conversation.tool_results(0)[0].contains("written"));
        assert_eq!(conversation.tools["write"].kind, Kind::Function);
        assert!(conversation.tools["write"].schema["properties"]["content"].is_object(), "{dialect:?}");
        assert!(conversation.response_schema.is_none());
    }
}

#[test]
fn any_json_is_a_conversation_in_every_dialect() {
    for dialect in DIALECTS {
        for body in [
            json!(null),
            json!([]),
            json!({"messages": 7, "tools": {}, "input": 3, "contents": ""}),
            json!({"messages": [null, 3], "tools": [4, {}], "input": [null, 1], "contents": [{"parts": [7]}, 2]}),
        ] {
            assert!(dialect.conversation(&body).last_user().is_none(), "{dialect:?} {body}");
        }
    }
}

#[test]
fn a_schema_for_the_answer_makes_a_side_request() {
    let schema = json!({"properties": {"next": {"enum": ["you", "me"]}}});
    for (dialect, format) in [
        (Dialect::Chat, json!({"response_format": {"json_schema": {"schema": schema}}})),
        (Dialect::Responses, json!({"text": {"format": {"type": "json_schema", "schema": schema}}})),
        (Dialect::Messages, json!({"output_config": {"format": {"schema": schema}}})),
        (Dialect::Messages, json!({"output_format": {"schema": schema}})),
        (Dialect::Gemini, json!({"generationConfig": {"responseJsonSchema": schema}})),
    ] {
        let mut body = request(dialect, "FAIL:500");
        body.as_object_mut().unwrap().extend(format.as_object().unwrap().clone());
        let script = script(&dialect.conversation(&body));
        assert!(script.side && script.failure.is_none(), "{dialect:?}");
        assert_eq!(script.steps[0], Step::Text(r#"{"next":"me"}"#.into()));
    }
}

#[test]
fn a_streamed_answer_thinks_speaks_and_ends() {
    let prompt = "THINK: hard\nSAY: two words";
    for (dialect, thought, text) in [
        (Dialect::Chat, "/choices/0/delta/reasoning_content", "/choices/0/delta/content"),
        (Dialect::Messages, "/delta/thinking", "/delta/text"),
    ] {
        let events = play(dialect, prompt);
        assert_eq!(joined(&events, thought), "thinking about: hard", "{dialect:?}");
        assert_eq!(joined(&events, text), "two words", "{dialect:?}");
    }
    let events = play(Dialect::Responses, prompt);
    let of =
        |kind: &str| -> Vec<Value> { events.iter().filter(|event| event["type"] == kind).cloned().collect() };
    assert_eq!(joined(&of("response.reasoning_summary_text.delta"), "/delta"), "thinking about: hard");
    assert_eq!(joined(&of("response.output_text.delta"), "/delta"), "two words");
    let numbers: Vec<_> = events.iter().map(|event| event["sequence_number"].as_u64().unwrap()).collect();
    assert!(numbers.is_sorted_by(|a, b| a + 1 == *b), "{numbers:?}");
    let done = &events.last().unwrap();
    assert_eq!(done["type"], "response.completed");
    assert_eq!(done["response"]["output"][1]["content"][0]["text"], "two words");

    let parts = play(Dialect::Gemini, prompt);
    let is_thought = |event: &&Value| event["candidates"][0]["content"]["parts"][0]["thought"] == true;
    let (thoughts, said): (Vec<Value>, Vec<Value>) =
        parts.iter().cloned().partition(|event| is_thought(&event));
    let text = "/candidates/0/content/parts/0/text";
    assert_eq!(joined(&thoughts, text), "thinking about: hard");
    assert_eq!(joined(&said, text), "two words");
    assert_eq!(parts.last().unwrap()["candidates"][0]["finishReason"], "STOP");
}

#[test]
fn blocks_of_messages_open_and_close_in_order() {
    let events = play(Dialect::Messages, "THINK: a\nTOOL:write x y");
    let order: Vec<String> = events
        .iter()
        .filter(|event| event["type"].as_str().unwrap().starts_with("content_block_st"))
        .map(|event| {
            format!("{}{}", if event["type"] == "content_block_start" { "+" } else { "-" }, event["index"])
        })
        .collect();
    assert_eq!(order, ["+0", "-0", "+1", "-1", "+2", "-2"]);
    assert!(events.iter().any(|event| event["delta"]["type"] == "signature_delta"));
    assert_eq!(events.last().unwrap()["type"], "message_stop");
}

#[test]
fn a_call_arrives_with_the_tools_name_and_arguments() {
    let wanted = json!({"file_path": "a.txt", "content": "hé\n"});
    let prompt = "TOOL:write a.txt hé";
    for (dialect, name, arguments) in [
        (
            Dialect::Chat,
            "/choices/0/delta/tool_calls/0/function/name",
            "/choices/0/delta/tool_calls/0/function/arguments",
        ),
        (Dialect::Messages, "/content_block/name", "/delta/partial_json"),
        (Dialect::Responses, "/item/name", "/arguments"),
    ] {
        let events = play(dialect, prompt);
        assert!(joined(&events, name).starts_with("write"), "{dialect:?}");
        let made: Value = serde_json::from_str(&joined(&events, arguments)).unwrap();
        assert_eq!(made, wanted, "{dialect:?}");
    }
    let calls = play(Dialect::Gemini, prompt);
    let call = calls.iter().find_map(|event| event.pointer("/candidates/0/content/parts/0/functionCall"));
    assert_eq!((&call.unwrap()["name"], &call.unwrap()["args"]), (&json!("write"), &wanted));
}

#[test]
fn tools_of_free_text_and_the_shell_of_responses_get_what_they_want() {
    let mut body = request(Dialect::Responses, "TOOL:write a.txt hello");
    body["tools"] = json!([{"type": "custom", "name": "apply_patch"}, {"type": "local_shell"}]);
    let conversation = Dialect::Responses.conversation(&body);
    let patch = events(&Dialect::Responses.frames(&answer(), script(&conversation).steps));
    let item = patch.iter().rfind(|event| event["type"] == "response.output_item.done").unwrap();
    assert_eq!(item["item"]["type"], "custom_tool_call");
    assert!(item["item"]["input"].as_str().unwrap().starts_with("*** Begin Patch\n*** Add File: a.txt"));

    body["input"] = json!("TOOL:bash echo hi");
    let conversation = Dialect::Responses.conversation(&body);
    let shell = events(&Dialect::Responses.frames(&answer(), script(&conversation).steps));
    let item = shell.iter().rfind(|event| event["type"] == "response.output_item.done").unwrap();
    assert_eq!(item["item"]["action"]["command"], json!(["bash", "-lc", "echo hi"]));

    body["tools"] = json!([]);
    body["input"] = json!([
        {"type": "additional_tools", "tools": [{"type": "namespace", "tools": [{"type": "function", "name": "shell"}]}]},
        {"role": "user", "content": "x"},
    ]);
    assert!(Dialect::Responses.conversation(&body).tools.contains_key("shell"));
}

#[test]
fn a_whole_answer_says_the_same_and_every_answer_has_a_price() {
    let prompt = "THINK: hard\nSAY: two words\nLEN";
    for (dialect, text, finish, word, input, output) in [
        (
            Dialect::Chat,
            "/choices/0/message/content",
            "/choices/0/finish_reason",
            "length",
            "/usage/prompt_tokens",
            "/usage/completion_tokens",
        ),
        (
            Dialect::Responses,
            "/output/1/content/0/text",
            "/incomplete_details/reason",
            "max_output_tokens",
            "/usage/input_tokens",
            "/usage/output_tokens",
        ),
        (
            Dialect::Messages,
            "/content/1/text",
            "/stop_reason",
            "max_tokens",
            "/usage/input_tokens",
            "/usage/output_tokens",
        ),
        (
            Dialect::Gemini,
            "/candidates/0/content/parts/1/text",
            "/candidates/0/finishReason",
            "MAX_TOKENS",
            "/usageMetadata/promptTokenCount",
            "/usageMetadata/candidatesTokenCount",
        ),
    ] {
        let body = play_whole(dialect, prompt);
        let at = |pointer: &str| body.pointer(pointer).cloned().unwrap_or_default();
        assert_eq!((at(text), at(finish)), (json!("two words"), json!(word)), "{dialect:?} {body}");
        assert_eq!(at(input), 40);
        assert!(at(output).as_u64().unwrap() > 0);
        let streamed = play(dialect, prompt);
        let priced = |pointer: &str| {
            streamed.iter().rev().any(|event| {
                [pointer.to_owned(), format!("/response{pointer}"), format!("/message{pointer}")]
                    .iter()
                    .any(|pointer| event.pointer(pointer).and_then(Value::as_u64).is_some_and(|n| n > 0))
            })
        };
        assert!(priced(input) && priced(output), "{dialect:?}");
        assert!(streamed.iter().any(|event| event.to_string().contains(word)), "{dialect:?}");
    }
}

#[test]
fn an_error_has_its_dialects_shape() {
    let refusal = |status| Refusal { status, message: "no", too_long: false };
    let of = |dialect: Dialect, status| dialect.error(refusal(status));
    assert_eq!(of(Dialect::Chat, 429)["error"]["type"], "rate_limit_error");
    assert_eq!(of(Dialect::Responses, 429)["error"]["code"], "rate_limit_exceeded");
    assert_eq!(of(Dialect::Messages, 529)["error"]["type"], "overloaded_error");
    assert_eq!(of(Dialect::Messages, 400)["type"], "error");
    assert_eq!(of(Dialect::Gemini, 429)["error"]["status"], "RESOURCE_EXHAUSTED");
    assert_eq!(of(Dialect::Gemini, 400)["error"]["code"], 400);
    for dialect in DIALECTS {
        assert_eq!(of(dialect, 500)["error"]["message"], "no");
        let too_long = Refusal { status: 400, message: dialect.too_long(), too_long: true };
        assert_eq!(dialect.refuses_in_stream(too_long), dialect == Dialect::Responses);
    }
    let too_long = Refusal { status: 400, message: Dialect::Responses.too_long(), too_long: true };
    let told = events(&Dialect::refusal_frames(&answer(), too_long));
    assert_eq!(told.last().unwrap()["response"]["error"]["code"], "context_length_exceeded");
}
