//! What a person sees of a turn.

use super::*;
use serde_json::json;

fn event(kind: &str, fields: Value) -> EventView {
    let mut whole = json!({
        "pos": 1, "task_id": Uuid::nil(), "seq": 1, "type": kind, "created_at": "2026-01-01T00:00:00Z",
    });
    whole.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    serde_json::from_value(whole).unwrap()
}

fn shown(events: &[EventView]) -> String {
    let mut transcript = Transcript::of_a_task();
    let mut out = Vec::new();
    for event in events {
        transcript.show(event, &mut out).unwrap();
    }
    let text = String::from_utf8(out).unwrap();
    anstream::adapter::strip_str(&text).to_string()
}

fn call(kind: &str, status: &str, fields: Value) -> EventView {
    let mut input = json!({"call_id": "c1", "status": status});
    input["input"] = fields["input"].clone();
    let mut event = event(kind, json!({"tool": "bash", "input": input}));
    event.output = fields["output"].as_str().map(str::to_owned);
    event
}

#[test]
fn pieces_of_text_join_and_everything_else_has_its_own_line() {
    let said = shown(&[
        event("reasoning", json!({"content": "hm"})),
        event("text", json!({"content": "one "})),
        event("text", json!({"content": "two"})),
        event("notice", json!({"content": "told\nagain"})),
        event("text", json!({"content": "three\n"})),
        event("turn_ended", json!({"content": "completed"})),
    ]);
    assert_eq!(said, "hm\none two\nnote: told again\nthree\n");
}

#[test]
fn a_tool_call_is_one_line_however_often_it_is_updated() {
    let said = shown(&[
        call("tool_call", "pending", json!({})),
        call("tool_update", "running", json!({"input": {"command": "ls\n-l"}})),
        call("tool_update", "running", json!({"input": {"command": "ls -l"}})),
        call("tool_update", "failed", json!({"output": "no such file"})),
    ]);
    assert_eq!(said, "→ bash ls -l\n✗ bash no such file\n");
    let mut titled = call("tool_call", "running", json!({}));
    titled.content = Some("bash: ls".to_owned());
    assert_eq!(shown(&[titled]), "→ bash ls\n");
}

#[test]
fn nothing_that_an_agent_says_moves_the_cursor() {
    let evil = "\u{1b}[2J\u{1b}]0;x\u{7}\u{202e}";
    let mut all = Vec::new();
    for kind in ["text", "reasoning", "notice", "retry", "permission", "mode_changed", evil] {
        all.push(event(kind, json!({"content": evil})));
    }
    all.push(event("plan", json!({"input": [{"content": evil, "status": evil}]})));
    all.push(event("turn_started", json!({"input": {"agent": evil, "conversation": evil}})));
    all.push(event("turn_ended", json!({"content": "queued", "input": {"reason": evil}})));
    let mut tool = call("tool_call", "failed", json!({"input": {"command": evil}, "output": evil}));
    tool.tool = Some(evil.to_owned());
    all.push(tool);
    let mut transcript = Transcript::of_a_session();
    let mut out = Vec::new();
    for event in &all {
        transcript.show(event, &mut out).unwrap();
    }
    let asked: PermissionView = serde_json::from_value(json!({
        "id": Uuid::nil(), "session_id": Uuid::nil(), "task_id": Uuid::nil(), "agent": evil, "kind": evil,
        "title": evil, "payload": {"questions": [{"question": evil, "options": [{"label": evil}]}]},
        "status": "pending", "created_at": "2026-01-01T00:00:00Z",
    }))
    .unwrap();
    transcript.show_permission(&asked, "", &mut out).unwrap();
    let end = StreamEnd {
        status: evil.into(),
        failure_reason: Some(evil.into()),
        error: Some(evil.into()),
        last_pos: 1,
    };
    transcript.end(&end, &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    // Our own colours are the only escapes, and they all end in m.
    for escape in text.split('\u{1b}').skip(1) {
        let code = escape.split_once('m').map(|(code, _)| code).unwrap_or("none");
        assert!(
            code.starts_with('[') && code[1..].bytes().all(|b| b.is_ascii_digit() || b == b';'),
            "{escape:?}"
        );
    }
    assert!(!text.contains(['\u{7}', '\u{202e}']));
}

#[test]
fn an_open_question_comes_with_the_command_that_answers_it() {
    let id = Uuid::from_u128(7);
    let asked = |status: &str, kind: &str| -> PermissionView {
        serde_json::from_value(json!({
            "id": id, "session_id": id, "task_id": id, "agent": "a", "kind": kind, "title": "t",
            "payload": {"questions": [{"question": "which?", "options": [{"label": "red"}, {"label": "blue"}]}]},
            "status": status, "answered_by": "policy", "created_at": "2026-01-01T00:00:00Z",
        }))
        .unwrap()
    };
    let said = |view: PermissionView| {
        let mut out = Vec::new();
        Transcript::of_a_task().show_permission(&view, " --url http://x", &mut out).unwrap();
        anstream::adapter::strip_str(std::str::from_utf8(&out).unwrap()).to_string()
    };
    let command = format!("agentpool permission answer {id} --answer TEXT --url http://x");
    let question = said(asked("pending", "question"));
    assert!(question.contains("which? [red | blue]") && question.contains(&command), "{question}");
    assert!(said(asked("pending", "tool")).contains("allow|always|deny"));
    assert_eq!(said(asked("answered", "tool")), "  answered by policy\n");
}

#[test]
fn the_last_line_says_how_it_ended_and_what_it_cost() {
    let mut transcript = Transcript::of_a_task();
    let mut out = Vec::new();
    let usage =
        json!({"input": {"input_tokens": 10, "cache_read_tokens": 5, "output_tokens": 2, "cost_usd": 0.5}});
    transcript.show(&event("usage", usage.clone()), &mut out).unwrap();
    transcript.show(&event("usage", usage), &mut out).unwrap();
    let end = StreamEnd {
        status: "failed".into(),
        failure_reason: Some("stalled".into()),
        error: Some("silent".into()),
        last_pos: 1,
    };
    transcript.end(&end, &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    let text = anstream::adapter::strip_str(&text).to_string();
    assert_eq!(text, "failed (stalled): silent · 30 tokens in, 4 out, $1.0000\n");
}
