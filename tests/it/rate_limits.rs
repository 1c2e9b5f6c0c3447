//! A provider that says when it will take requests again: its agent is parked on the node until then, visibly, and tasks wait
//! uncharged. Other agents work on.

use crate::support::node::{TestNode, scripted_agent, scripted_config};
use agentpool::domain::agent::AgentName;
use agentpool::wire::api::{AgentView, TaskView};
use agentpool::wire::health::HealthView;
use agentpool::wire::pool::PoolView;
use chrono::{DateTime, Utc};

/// A node whose agents `limited` and `other` are scripted, with a poll of a minute: what is taken up sooner was not found by it.
async fn node() -> TestNode {
    let folder = tempfile::tempdir().unwrap();
    let mut config = scripted_config(&folder).await;
    for name in ["limited", "other"] {
        config.agents.insert(AgentName::new(name).unwrap(), scripted_agent("scripted"));
    }
    TestNode::start(config, vec![folder]).await
}

async fn submitted(node: &TestNode, agent: &str, prompt: &str) -> TaskView {
    let session = node.session().await;
    node.submit(session.id, agent, prompt).await
}

async fn parked_until(node: &TestNode) -> Option<DateTime<Utc>> {
    let agents: Vec<AgentView> = node.get("/api/agents").await;
    agents.into_iter().find(|agent| agent.name == "limited").unwrap().parked_until
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_limit_with_a_time_parks_the_agent_until_then_and_no_other() {
    let node = node().await;
    let began = Utc::now();
    let first = submitted(&node, "limited", "FAIL:rate_limitedx1@3\nSAY: at last").await;
    node.until("SELECT count(*) = 1 FROM agentpool.tasks WHERE failure_reason = 'rate_limited'").await;
    let second = submitted(&node, "limited", "SAY: me too").await;
    let other = submitted(&node, "other", "SAY: not concerned").await;
    assert_eq!(node.finish(other.id).await.0.status, "completed");

    let waiting: TaskView = node.get(&format!("/api/tasks/{}", second.id)).await;
    assert_eq!(
        (waiting.status.as_str(), waiting.attempt),
        ("queued", 0),
        "nothing of a parked agent is claimed"
    );
    let until = parked_until(&node).await.expect("it is parked");
    let pool: PoolView = node.get("/api/pool").await;
    assert!(pool.backends.iter().any(|backend| backend.agent == "limited" && backend.parked_until.is_some()));
    let health: HealthView = node.get("/healthz").await;
    assert_eq!(health.parked.keys().collect::<Vec<_>>(), ["limited"]);

    let (first, _) = node.finish(first.id).await;
    assert_eq!((first.status.as_str(), first.attempt, first.failures), ("completed", 2, 0), "{first:?}");
    let (second, _) = node.finish(second.id).await;
    assert_eq!((second.status.as_str(), second.attempt), ("completed", 1), "{second:?}");
    for task in [&first, &second] {
        let ended = task.finished_at.expect("it ended");
        assert!((ended - began).num_seconds() >= 2, "before the limit ended: {task:?}");
        assert!((ended - until).num_seconds() < 20, "the end of the parking was found by the poll: {task:?}");
    }
    assert_eq!(parked_until(&node).await, None, "it ended by itself");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_limit_without_a_time_backs_off_and_parks_nobody() {
    let node = node().await;
    let first = submitted(&node, "limited", "SCENARIO:rate_limited").await;
    node.until("SELECT count(*) = 1 FROM agentpool.tasks WHERE failure_reason = 'rate_limited'").await;
    assert_eq!(parked_until(&node).await, None);
    let second = submitted(&node, "limited", "SAY: at once").await;
    assert_eq!(node.finish(second.id).await.0.status, "completed");
    let (first, _) = node.finish(first.id).await;
    assert_eq!((first.status.as_str(), first.failures), ("completed", 0), "{first:?}");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parked_agents_task_can_be_cancelled_and_says_until_when_it_waits() {
    let node = node().await;
    let task = submitted(&node, "limited", "FAIL:rate_limited@3600").await;
    node.until("SELECT count(*) = 1 FROM agentpool.tasks WHERE failure_reason = 'rate_limited'").await;
    let waits = "SELECT run_at > clock_timestamp() + interval '59 min' FROM agentpool.tasks";
    node.until(waits).await;
    node.cancel(task.id).await;
    let (task, _) = node.finish(task.id).await;
    assert_eq!((task.status.as_str(), task.failures), ("cancelled", 0), "{task:?}");
    node.stop().await;
}
