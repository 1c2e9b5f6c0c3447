//! `/api/openapi.json` and the shape of every refusal. That answers keep to the document is for `cargo test --test contract`.

use crate::support::node::TestNode;
use agentpool::wire::api::Problem;
use reqwest::{Method, StatusCode};
use serde_json::Value;
use std::collections::HashSet;

#[tokio::test(flavor = "multi_thread")]
async fn the_document_tells_of_every_operation_and_of_each_refusal_that_its_shape_brings() {
    let node = TestNode::scripted().await;
    let document: Value = node.get("/api/openapi.json").await;
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    let operations: Vec<(&str, &str, &Value)> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, item)| {
            item.as_object().unwrap().iter().map(move |(method, op)| (path.as_str(), method.as_str(), op))
        })
        .collect();
    assert!(operations.len() >= 25, "{}", operations.len());
    let names: HashSet<&str> =
        operations.iter().map(|(_, _, op)| op["operationId"].as_str().unwrap()).collect();
    assert_eq!(names.len(), operations.len(), "every operation has a name of its own");
    for (path, method, operation) in operations {
        let has = |status: &str| operation["responses"].get(status).is_some();
        assert!(has("401") && has("503"), "{method} {path}");
        assert!(has("404") || !(path.contains('{') || method == "post"), "{method} {path}");
        assert!(operation["summary"].as_str().is_some_and(|words| words.ends_with('.')), "{method} {path}");
        // Each route is there, and behind the token.
        let real = path.replace("{id}", "01970000-0000-7000-8000-000000000001").replace("{name}", "scripted");
        let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
        let bare =
            reqwest::Client::new().request(method, format!("{}{real}", node.url)).send().await.unwrap();
        assert_eq!(bare.status(), StatusCode::UNAUTHORIZED, "{path}");
        assert_eq!(bare.headers()["www-authenticate"], "Bearer");
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_names_its_request_and_a_refusal_is_a_problem() {
    let node = TestNode::scripted().await;
    let ask = async |given: Option<&str>| {
        let request = node.request(Method::GET, "/api/tasks/nonsense");
        let request = given.iter().fold(request, |request, id| request.header("X-Request-Id", *id));
        let answer = request.send().await.unwrap();
        assert_eq!(answer.headers()["content-type"], "application/problem+json");
        let named = answer.headers()["x-request-id"].to_str().unwrap().to_owned();
        (named, answer.json::<Problem>().await.unwrap())
    };
    let (named, problem) = ask(None).await;
    assert_eq!(
        (problem.status, problem.code.as_str(), problem.title.as_str(), problem.kind.as_str()),
        (404, "not_found", "Not Found", "urn:agentpool:problem:not_found")
    );
    assert_eq!(problem.request_id, named);
    assert_eq!(ask(Some("build-7.a")).await.1.request_id, "build-7.a", "a caller's own name is kept");
    for bad in ["two words", &"x".repeat(65)] {
        assert_ne!(ask(Some(bad)).await.1.request_id, bad);
    }
    let answer = node.request(Method::GET, "/api/tasks").send().await.unwrap();
    assert!(answer.headers().contains_key("x-request-id"));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_readmes_tour_works_as_pasted() {
    let node = TestNode::scripted().await;
    let readme = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md"));
    let tour = readme.split("Five lines that work as pasted").nth(1).expect("the tour is there");
    let tour =
        tour.split("```sh\n").nth(1).and_then(|rest| rest.split("```").next()).expect("it has its lines");
    assert_eq!(tour.lines().count(), 5);
    let tour = tour.replace("http://127.0.0.1:7717", &node.url).replace("opencode", "scripted");
    let mut bash = tokio::process::Command::new("bash");
    bash.args(["-euo", "pipefail", "-c", &tour]).current_dir(&node.project);
    let told = bash.env("AGENTPOOL_DATA_DIR", &node.config.data_dir).output().await.unwrap();
    let said = String::from_utf8_lossy(&told.stdout);
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    assert!(said.contains("event: end") && said.contains("hello"), "{said}");
    node.stop().await;
}
