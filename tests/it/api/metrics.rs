//! `/metrics`: for admins, by the rules of Prometheus, without ids.

use crate::support::node::TestNode;
use agentpool::domain::measure;
use agentpool::wire::api::{NewToken, NewTokenView};
use reqwest::{Method, StatusCode};

/// The sum of a metric over its labels that hold `label`.
fn value(text: &str, name: &str, label: &str) -> f64 {
    let lines = text.lines().filter(|line| {
        line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])) && line.contains(label)
    });
    lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happened_and_what_stands_is_told_to_admins_without_ids() {
    let node = TestNode::scripted().await;
    let scrape = async || {
        let answer = node.request(Method::GET, "/metrics").send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        assert!(answer.headers()["content-type"].to_str().unwrap().starts_with("text/plain; version=0.0.4"));
        answer.text().await.unwrap()
    };
    let before = scrape().await;
    let session = node.session().await.id;
    node.turn(session, "scripted", "SAY: do not tell").await;
    let task = node.submit_with(session, "scripted", "FAIL:provider_errorx9", 1).await;
    node.finish(task.id).await;
    let after = scrape().await;
    // Other tests of this process count too.
    let grew = |name: &str, label: &str| value(&after, name, label) - value(&before, name, label);
    assert!(grew(measure::TASKS_SUBMITTED, "") >= 2.0, "{after}");
    assert!(grew(measure::TASKS_FINISHED, "outcome=\"completed\"") >= 1.0);
    assert!(grew(measure::TASKS_FINISHED, "reason=\"provider_error\"") >= 1.0);
    assert!(grew("agentpool_turn_duration_seconds_count", "agent=\"scripted\"") >= 2.0);
    assert!(grew("agentpool_turn_first_event_seconds_count", "agent=\"scripted\"") >= 1.0);
    assert!(grew("http_server_request_duration_seconds_count", "route=\"/api/tasks/{id}/events\"") >= 2.0);
    assert!(value(&after, measure::RESIDENT_BYTES, "") > 1e6 && value(&after, measure::OPEN_FDS, "") > 5.0);
    for line in after.lines().filter(|line| !line.starts_with('#')) {
        let words = line.split(|c: char| !(c.is_ascii_hexdigit() || c == '-'));
        assert!(words.clone().all(|word| uuid::Uuid::parse_str(word).is_err()), "an id: {line}");
        assert!(!line.contains("do not tell"), "{line}");
    }
    for (name, _, _) in measure::ALL.iter().filter(|(name, ..)| after.contains(name)) {
        assert!(after.contains(&format!("# HELP {name} ")), "{name} is not explained");
    }
    let body = NewToken { name: "c".into(), scope: "client".into(), workspace: None };
    let client: NewTokenView = node.post("/api/tokens", &body, StatusCode::CREATED).await;
    let url = format!("{}/metrics", node.url);
    let client = reqwest::Client::new().get(&url).bearer_auth(client.secret).send().await.unwrap();
    assert_eq!(client.status(), StatusCode::NOT_FOUND);
    assert_eq!(reqwest::get(&url).await.unwrap().status(), StatusCode::UNAUTHORIZED);
    node.stop().await;
}
