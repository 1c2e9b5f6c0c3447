//! Postgres away for longer than a lease, and away again and again.

use crate::support::cli::User;
use crate::support::cluster::TestDatabase;
use crate::support::cluster::connection_string;
use crate::support::node::{TestNode, scripted_config};
use crate::support::own_cluster::OwnCluster;
use crate::support::queue::{DEADLINE, Queue, plain};
use agentpool::dispatch::leases::Leases;
use agentpool::wire::api::Problem;
use reqwest::{Method, StatusCode};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use uuid::Uuid;

/// How long after a lease of 15 s.
const LONGER_THAN_A_LEASE: Duration = Duration::from_secs(18);

async fn node_on(cluster: &OwnCluster) -> TestNode {
    let folder = tempfile::tempdir().unwrap();
    let mut config = scripted_config(&folder).await;
    config.database_url = Some(connection_string(&cluster.config));
    TestNode::start(config, vec![folder]).await
}

/// Both at once, on clusters of their own: they wait more than they work.
#[tokio::test(flavor = "multi_thread")]
async fn f25_f43_outages_short_and_long_cost_no_task_and_no_lease() {
    tokio::join!(
        f43_over_an_outage_longer_than_a_lease_nothing_is_stolen_and_every_turn_ends_once(),
        f25_over_restarts_every_few_seconds_all_tasks_end_exactly_once_and_in_order()
    );
}

async fn f43_over_an_outage_longer_than_a_lease_nothing_is_stolen_and_every_turn_ends_once() {
    let mut cluster = OwnCluster::start("outage").await;
    let nodes = [node_on(&cluster).await, node_on(&cluster).await, node_on(&cluster).await];
    let db = TestDatabase { config: cluster.config.clone(), name: "agentpool".into() };
    let queue = Queue::on(db).await;
    // Leases that any of the nodes might take if it thought their owner dead: of a clone URL, and no worktree yet.
    let owner = queue.node().await;
    owner.live().await;
    for _ in 0..3 {
        queue.put(&plain(queue.session().await, "x")).await;
    }
    // The nodes admit too: one that has an admission in hand makes ours wait for the next round.
    let mut movable = Vec::new();
    let taking = async {
        while movable.len() < 3 {
            movable.extend(owner.take(3).await);
        }
    };
    tokio::time::timeout(DEADLINE, taking).await.unwrap();
    let leases = Leases::default();
    let held: Vec<_> =
        movable.iter().map(|task| leases.hold(task.lease, Arc::new(watch::channel(None).0))).collect();
    let keeping = tokio::spawn(leases.clone().keep(owner.source.clone()));
    let mut tasks = Vec::new();
    for node in &nodes {
        let session = node.session().await.id;
        let task = node.submit(session, "scripted", "SLOW:1300").await;
        node.follow(task.id, |event| event.kind == "text").await;
        tasks.push((session, task.id));
    }

    cluster.stop().await;
    let away = tokio::time::sleep(LONGER_THAN_A_LEASE);
    what_is_asked_meanwhile_is_refused_with_words(&nodes[0], tasks[0].0).await;
    away.await;
    cluster.go_on().await;

    for (node, (_, task)) in nodes.iter().zip(&tasks) {
        node.until(&format!(
            "SELECT status NOT IN ('dispatched', 'running') FROM agentpool.tasks WHERE id = '{task}'"
        ))
        .await;
        let task = node.get::<agentpool::wire::api::TaskView>(&format!("/api/tasks/{task}")).await;
        assert_eq!((task.status.as_str(), task.attempt, task.failures), ("completed", 1, 0), "{task:?}");
    }
    let kept = cluster.sql().await;
    let mine =
        "SELECT count(*) FROM agentpool.lanes WHERE state = 2 AND fence = 1 AND lease_incarnation = $1";
    assert_eq!(
        kept.query_one(mine, &[&owner.incarnation.0]).await.unwrap().get::<_, i64>(0),
        3,
        "nothing was stolen"
    );
    let ends = "SELECT count(*) FROM agentpool.task_messages WHERE type = 'turn_ended'";
    assert_eq!(kept.query_one(ends, &[]).await.unwrap().get::<_, i64>(0), 3);
    keeping.abort();
    drop((held, owner));
    for node in nodes {
        node.stop().await;
    }
    cluster.stop().await;
}

/// By the API and by the command line; and the process is alive.
async fn what_is_asked_meanwhile_is_refused_with_words(node: &TestNode, session: Uuid) {
    let task = json!({"session_id": session, "agent": "scripted", "prompt": "SAY: hi"});
    for request in [
        node.request(Method::GET, "/api/tasks"),
        node.request(Method::POST, "/api/tasks").json(&task),
        node.request(Method::GET, "/readyz"),
    ] {
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        let said: Problem = answer.json().await.unwrap();
        assert!(
            said.detail.contains("cannot be reached") && said.detail.contains("check that it runs"),
            "{said:?}"
        );
    }
    let alive = reqwest::get(format!("{}/livez", node.url)).await.unwrap();
    assert_eq!(alive.status(), StatusCode::OK);
    let user = User::of(&node.url).with("AGENTPOOL_TOKEN", node.token.clone());
    for command in
        [&["tasks"][..], &["submit", "--session", &session.to_string(), "--agent", "scripted", "x"]]
    {
        let ended = user.run(command).await.expect(69);
        assert!(ended.stderr.contains("check that it runs"), "{}", ended.stderr);
    }
}

async fn f25_over_restarts_every_few_seconds_all_tasks_end_exactly_once_and_in_order() {
    let mut cluster = OwnCluster::start("restarts").await;
    let node = node_on(&cluster).await;
    for _ in 0..8 {
        let session = node.session().await.id;
        let put = "INSERT INTO agentpool.tasks (session_id, agent, prompt)
                   SELECT $1, 'scripted', 'SLOW:15' FROM generate_series(1, 25) n";
        node.sql().await.execute(put, &[&session]).await.unwrap();
    }
    let mut restarts = 0;
    while !all_ended(&cluster).await {
        cluster.stop().await;
        let down = Duration::from_millis(rand::random_range(0..800));
        tokio::time::sleep(down).await;
        cluster.go_on().await;
        restarts += 1;
        // The time between two restarts; not longer than the work lasts.
        let up = Duration::from_millis(rand::random_range(1500..3000));
        tokio::time::sleep(up).await;
        assert!(DEADLINE.as_secs() > restarts, "it does not come to an end");
    }
    assert!(restarts >= 3, "{restarts} restarts are none");
    let sql = cluster.sql().await;
    let count = async |query: &str| sql.query_one(query, &[]).await.unwrap().get::<_, i64>(0);
    let done = "SELECT count(*) FROM agentpool.tasks WHERE status = 'completed' AND failures = 0";
    assert_eq!(count(done).await, 200);
    let ended_twice = "SELECT count(*) FROM (SELECT task_id FROM agentpool.task_messages
                       WHERE type = 'turn_ended' AND content = 'completed' GROUP BY task_id HAVING count(*) > 1) t";
    assert_eq!(count(ended_twice).await, 0);
    let out_of_order = "SELECT count(*) FROM (SELECT finished_at < lag(finished_at) OVER lane OR
                            started_at < lag(finished_at) OVER lane AS bad FROM agentpool.tasks
                            WINDOW lane AS (PARTITION BY session_id ORDER BY enqueued)) t WHERE bad";
    assert_eq!(count(out_of_order).await, 0);
    node.stop().await;
    cluster.stop().await;
}

async fn all_ended(cluster: &OwnCluster) -> bool {
    let open = "SELECT count(*) = 0 FROM agentpool.tasks WHERE finished_at IS NULL";
    cluster.sql().await.query_one(open, &[]).await.unwrap().get(0)
}
