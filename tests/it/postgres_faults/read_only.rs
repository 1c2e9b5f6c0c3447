//! A primary that takes no writes.

use crate::support::cluster::connection_string;
use crate::support::node::{TestNode, scripted_config};
use crate::support::own_cluster::OwnCluster;
use agentpool::wire::api::Problem;
use agentpool::wire::health::HealthView;
use reqwest::{Method, StatusCode};
use serde_json::json;
use std::time::Duration;

/// Waits until `/readyz` answers so; gives back what it says.
async fn until_ready_is(node: &TestNode, status: StatusCode) -> String {
    let waiting = async {
        loop {
            let answer = reqwest::get(format!("{}/readyz", node.url)).await.unwrap();
            if answer.status() == status {
                return answer.text().await.unwrap();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(crate::support::node::PATIENCE, waiting).await.expect("it changes")
}

#[tokio::test(flavor = "multi_thread")]
async fn f27_on_a_read_only_primary_nobody_is_ready_though_the_listener_hears_and_it_recovers_by_itself() {
    let mut cluster = OwnCluster::start("read-only").await;
    let folder = tempfile::tempdir().unwrap();
    let mut config = scripted_config(&folder).await;
    config.database_url = Some(connection_string(&cluster.config));
    let node = TestNode::start(config, vec![folder]).await;
    let session = node.session().await.id;
    until_ready_is(&node, StatusCode::OK).await;

    let admin = cluster.sql().await;
    let set = async |value: &str| {
        admin.batch_execute("SET default_transaction_read_only = off").await.unwrap();
        admin
            .batch_execute(&format!("ALTER SYSTEM SET default_transaction_read_only = {value}"))
            .await
            .unwrap();
        admin.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    };
    set("on").await;
    let said: Problem =
        serde_json::from_str(&until_ready_is(&node, StatusCode::SERVICE_UNAVAILABLE).await).unwrap();
    assert_eq!(said.code, "database");
    assert!(said.detail.contains("read-only: point the service at the primary"), "{said:?}");
    let health: HealthView = node.get("/healthz").await;
    assert_eq!((health.status.as_str(), health.listener.as_str()), ("degraded", "listening"));
    let task = json!({"session_id": session, "agent": "scripted", "prompt": "SAY: hi"});
    let answer = node.request(Method::POST, "/api/tasks").json(&task).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(answer.headers().contains_key("retry-after"));
    let said: Problem = answer.json().await.unwrap();
    assert!(said.detail.contains("read-only"), "{said:?}");

    set("off").await;
    until_ready_is(&node, StatusCode::OK).await;
    assert_eq!(node.turn(session, "scripted", "SAY: hi").await.status, "completed");
    node.stop().await;
    cluster.stop().await;
}
