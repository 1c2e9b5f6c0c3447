//! The log of the real program at its most talkative: what a turn was and which request was refused, and nothing of what was said.

use crate::support::cluster::fresh_database;
use crate::support::serve::Place;
use nix::sys::signal::Signal;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

const ASKING: &str = "log = \"agentpool=trace,axum=trace,hyper=trace\"\n[agents.scripted]\nbackend = \"scripted\"\n\
                      permission = { policy = \"ask\" }\nenv = { SECRET_KEY = \"canary-in-the-environment\" }";

#[tokio::test(flavor = "multi_thread")]
async fn s28_the_log_tells_of_a_turn_and_of_a_refused_request_and_never_what_was_said() {
    let place = Place::on(&fresh_database().await, ASKING);
    let served = place.serve().await;
    let talk = &served.talk;
    let session = talk.session().await;
    let prompt = "SAY: canary-in-the-answer\nTOOL:write a.txt canary-in-a-file\nASK: canary-in-a-question\nQUESTION: canary-in-another";
    let task = talk.submit(session.id, "scripted", prompt).await;
    for answer in [
        json!({"decision": "deny", "message": "canary-in-a-denial"}),
        json!({"decision": "answers", "answers": [["canary-in-an-answer"]]}),
    ] {
        let asked = talk.one_pending_permission().await;
        talk.post::<Value>(&format!("/api/permissions/{}/answer", asked.id), &answer, StatusCode::OK).await;
    }
    let (task, _) = talk.finish(task.id).await;
    assert!(task.output.is_some_and(|output| output.contains("canary-in-the-answer")));
    let refused =
        talk.request(Method::POST, "/api/tasks?canary-in-a-query=1").header("X-Request-Id", "build-7.a");
    let refused = refused.json(&json!({"prompt": "canary-in-a-body"})).send().await.unwrap();
    assert!(refused.status().is_client_error());
    let stranger =
        reqwest::Client::new().get(format!("{}/api/tasks", talk.url)).bearer_auth("agp_canary-in-a-token");
    assert_eq!(stranger.send().await.unwrap().status(), StatusCode::UNAUTHORIZED);
    let token = talk.token.clone();
    served.signal(Signal::SIGTERM);
    let (_, said) = served.ended().await;

    let told: Vec<&String> = said.iter().filter(|line| line.contains("canary")).collect();
    assert!(told.is_empty(), "{told:#?}");
    assert!(!said.iter().any(|line| line.contains(&token)), "the token of the service");
    let lines: Vec<Value> = said.iter().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let of_request =
        lines.iter().find(|line| line["span"]["id"] == "build-7.a" && line["message"] == "refused");
    assert_eq!(of_request.expect("the refused request is named")["level"], "INFO");
    let ended = lines.iter().find(|line| line["message"] == "the turn ended").expect("it says so");
    let span = &ended["span"];
    assert_eq!((&span["name"], &span["task"]), (&json!("invoke_agent"), &json!(task.id)));
    assert_eq!(
        (&span["gen_ai.operation.name"], &span["gen_ai.agent.name"]),
        (&json!("invoke_agent"), &json!("scripted"))
    );
    assert_eq!(span["gen_ai.conversation.id"], json!(session.id));
    assert!(span["gen_ai.usage.output_tokens"].as_u64().is_some_and(|tokens| tokens > 0), "{span}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_in_which_nothing_happens_beats() {
    let node = crate::support::node::TestNode::scripted().await;
    let session = node.session().await;
    for path in ["/api/events".to_owned(), format!("/api/sessions/{}/events", session.id)] {
        let mut stream = node.request(Method::GET, &path).send().await.unwrap();
        let beats = async {
            let mut heard = String::new();
            while !heard.contains("event: beat") {
                heard.push_str(&String::from_utf8_lossy(
                    &stream.chunk().await.unwrap().expect("it stays open"),
                ));
            }
        };
        tokio::time::timeout(crate::support::node::PATIENCE, beats).await.expect("it beats");
    }
    node.stop().await;
}
