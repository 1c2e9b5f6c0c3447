//! The scripted model over its real wire, as an agent's provider library sees it.

use agentpool::scripted_model::{Outcome, ScriptedModel};
use futures::StreamExt;
use serde_json::{Value, json};
use std::time::Duration;

fn request(prompt: &str) -> Value {
    let tool = json!({"type": "function", "function": {"name": "write", "parameters": {
        "type": "object",
        "properties": {"filePath": {"type": "string"}, "content": {"type": "string"}},
        "required": ["filePath", "content"],
    }}});
    json!({"model": "echo", "stream": true, "messages": [{"role": "user", "content": prompt}], "tools": [tool]})
}

async fn post(model: &ScriptedModel, body: &Value) -> reqwest::Response {
    let url = format!("{}/chat/completions", model.base_url());
    reqwest::Client::new().post(url).json(body).send().await.expect("the model listens")
}

/// The JSON of every event, and whether the stream ended with `[DONE]`.
fn events(stream: &str) -> (Vec<Value>, bool) {
    let data: Vec<&str> = stream.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
    (data.iter().filter_map(|data| serde_json::from_str(data).ok()).collect(), data.last() == Some(&"[DONE]"))
}

fn joined(events: &[Value], field: &str) -> String {
    events.iter().filter_map(|event| event["choices"][0]["delta"][field].as_str()).collect()
}

async fn settled(model: &ScriptedModel, n: usize) -> Outcome {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    loop {
        match model.requests().get(n).map(|request| request.outcome) {
            Some(outcome) if outcome != Outcome::Running => return outcome,
            _ if tokio::time::Instant::now() > deadline => panic!("request {n} never settled"),
            _ => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
}

#[tokio::test]
async fn a_streamed_answer_carries_thought_text_end_and_usage() {
    let model = ScriptedModel::start(0).unwrap();
    let body = post(&model, &request("THINK: hard\nSAY: two words")).await.text().await.unwrap();
    let (events, done) = events(&body);
    assert!(done);
    assert_eq!(joined(&events, "reasoning_content"), "thinking about: hard");
    assert_eq!(joined(&events, "content"), "two words");
    assert!(events.iter().any(|event| event["choices"][0]["finish_reason"] == "stop"));
    let usage = &events.last().unwrap()["usage"];
    assert!(usage["prompt_tokens"].as_u64().unwrap() > 0);
    assert_eq!(usage["completion_tokens"], 5);
    assert_eq!(usage["completion_tokens_details"]["reasoning_tokens"], 3);
    model.stop().await;
}

#[tokio::test]
async fn a_tool_call_arrives_in_pieces_that_join_to_its_arguments() {
    let model = ScriptedModel::start(0).unwrap();
    let (events, _) = events(&post(&model, &request("TOOL:write a.txt hé")).await.text().await.unwrap());
    let calls: Vec<&Value> =
        events.iter().map(|event| &event["choices"][0]["delta"]["tool_calls"][0]["function"]).collect();
    assert!(calls.iter().any(|call| call["name"] == "write"));
    let arguments: String = calls.iter().filter_map(|call| call["arguments"].as_str()).collect();
    let arguments: Value = serde_json::from_str(&arguments).unwrap();
    assert_eq!(arguments, json!({"filePath": "a.txt", "content": "hé\n"}));
    assert!(events.iter().any(|event| event["choices"][0]["finish_reason"] == "tool_calls"));
}

#[tokio::test]
async fn an_answer_that_is_not_streamed_says_the_same() {
    let model = ScriptedModel::start(0).unwrap();
    let mut body = request("SAY: whole\nLEN");
    body["stream"] = json!(false);
    let answer: Value = post(&model, &body).await.json().await.unwrap();
    assert_eq!(answer["choices"][0]["message"]["content"], "whole");
    assert_eq!(answer["choices"][0]["finish_reason"], "length");
    assert_eq!(answer["usage"]["completion_tokens"], 1);
}

#[tokio::test]
async fn a_failure_lasts_as_many_tries_as_it_says() {
    let model = ScriptedModel::start(0).unwrap();
    let body = request("FAIL:429x2 SAY: at last");
    let mut statuses = Vec::new();
    for _ in 0..3 {
        statuses.push(post(&model, &body).await.status().as_u16());
    }
    assert_eq!(statuses, [429, 429, 200]);
    model.reset();
    let again = post(&model, &body).await;
    assert_eq!(again.headers()["retry-after"], "1");
    let error: Value = again.json().await.unwrap();
    assert_eq!(error["error"]["type"], "rate_limit_error");
}

#[tokio::test]
async fn a_dropped_stream_is_seen_as_broken_and_not_as_ended() {
    let model = ScriptedModel::start(0).unwrap();
    let answer = post(&model, &request("DROP")).await;
    assert!(answer.text().await.is_err(), "the client took half an answer for a whole one");
    assert_eq!(settled(&model, 0).await, Outcome::Dropped);
}

#[tokio::test]
async fn a_client_that_leaves_is_noticed_while_the_model_hangs() {
    let model = ScriptedModel::start(0).unwrap();
    let mut answer = post(&model, &request("HANG")).await.bytes_stream();
    let first = answer.next().await.unwrap().unwrap();
    assert!(String::from_utf8_lossy(&first).contains("assistant"));
    assert_eq!(model.requests()[0].outcome, Outcome::Running);
    drop(answer);
    assert_eq!(settled(&model, 0).await, Outcome::CutOff);
}

#[tokio::test]
async fn stop_cuts_an_answer_that_hangs_and_frees_the_port() {
    let model = ScriptedModel::start(0).unwrap();
    let port = model.port();
    let answer = post(&model, &request("HANG")).await;
    model.stop().await;
    assert!(answer.text().await.is_err(), "the cut answer looked whole");
    ScriptedModel::start(port).expect("the port is free again").stop().await;
}

#[tokio::test]
async fn the_log_tells_what_the_model_was_shown() {
    let model = ScriptedModel::start(0).unwrap();
    let mut body = request("<system-reminder>HANG</system-reminder>RECALL");
    body["messages"] = json!([
        {"role": "system", "content": "be brief"}, {"role": "user", "content": "SAY: one"},
        {"role": "assistant", "content": "one"}, body["messages"][0],
    ]);
    let (events, _) = events(&post(&model, &body).await.text().await.unwrap());
    assert_eq!(joined(&events, "content"), "RECALL 1 prior user turns: SAY: one");
    let logged = &model.requests()[0];
    assert_eq!((logged.path.as_str(), logged.model.as_str()), ("/v1/chat/completions", "echo"));
    assert_eq!(logged.user_turns, ["SAY: one", "RECALL"]);
    assert_eq!(logged.directive, "RECALL");
    assert_eq!(logged.tools, ["write"]);
    assert!(logged.text().contains("be brief") && !logged.side);
}

#[tokio::test]
async fn a_server_run_by_hand_can_be_looked_into() {
    let model = ScriptedModel::start(0).unwrap();
    let root = model.base_url().replace("/v1", "");
    let client = reqwest::Client::new();
    let get = async |path: &str| -> Value {
        client.get(format!("{root}{path}")).send().await.unwrap().json().await.unwrap()
    };
    post(&model, &request("SAY: a")).await.text().await.unwrap();
    post(&model, &request("SAY: b")).await.text().await.unwrap();
    assert_eq!(get("/__last").await, 2);
    let log = get("/__log?since=1").await;
    assert_eq!(log.as_array().map(Vec::len), Some(1));
    assert_eq!(log[0]["directive"], "SAY: b");
    assert_eq!(get("/v1/models").await["data"][0]["id"], "scripted-1");
    client.post(format!("{root}/__reset")).send().await.unwrap();
    assert_eq!(get("/__log").await, json!([]));
    assert_eq!(get("/__last").await, 2);
}

#[tokio::test]
async fn a_side_request_gets_a_title_or_the_smallest_json() {
    let model = ScriptedModel::start(0).unwrap();
    let mut body = request("FAIL:500 title please");
    body["tools"] = json!([]);
    let (events, _) = events(&post(&model, &body).await.text().await.unwrap());
    assert_eq!(joined(&events, "content"), "Scripted title");
    body["stream"] = json!(false);
    body["response_format"] =
        json!({"json_schema": {"schema": {"properties": {"next": {"enum": ["you", "me"]}}}}});
    let answer: Value = post(&model, &body).await.json().await.unwrap();
    assert_eq!(answer["choices"][0]["message"]["content"], r#"{"next":"me"}"#);
    assert!(model.requests().iter().all(|request| request.side));
}
