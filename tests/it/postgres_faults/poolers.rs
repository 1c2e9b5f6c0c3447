//! A real PgBouncer in transaction mode between the service and its database.

use crate::support::cli::{Ended, User};
use crate::support::cluster::connection_string;
use crate::support::cluster::{TestDatabase, fresh_database};
use crate::support::node::{TestNode, scripted_config};
use crate::support::pgbouncer::PgBouncer;
use crate::support::queue::connect;
use serde_json::Value;

#[tokio::test(flavor = "multi_thread")]
async fn f36_reads_go_through_a_pooler_and_the_engine_past_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = scripted_config(&folder).await;
    let direct = config.database_url.take().unwrap();
    let pooler = PgBouncer::before(&direct.parse().unwrap(), "default_pool_size = 2").await;
    config.database_url = Some(connection_string(&pooler.config));
    config.database_direct_url = Some(direct);
    let node = TestNode::start(config, vec![folder]).await;
    let session = node.session().await.id;
    for number in 0..3 {
        let ended = node.turn(session, "scripted", &format!("TOOL:write {number}.txt hello")).await;
        assert_eq!(ended.status, "completed");
    }
    let task = node.get::<Value>("/api/tasks").await[0]["id"].as_str().unwrap().to_owned();
    let paths = [
        "/api/projects".to_owned(),
        "/api/sessions".to_owned(),
        format!("/api/sessions/{session}"),
        format!("/api/sessions/{session}/changes"),
        "/api/tasks".to_owned(),
        format!("/api/tasks/{task}"),
        "/api/permissions?all=true".to_owned(),
        "/api/agents".to_owned(),
        "/healthz".to_owned(),
    ];
    // Often and all at once: two server connections change hands between statements of different readers.
    for _ in 0..5 {
        let reads = paths.iter().map(|path| node.get::<Value>(path));
        let answers = futures::future::join_all(reads).await;
        assert_eq!(answers[8]["status"], "ok", "{}", answers[8]);
        assert_eq!(answers[3].as_array().unwrap().len(), 3);
    }
    node.stop().await;
}

/// What `agentpool serve` says on a database that it reaches only through that pooler.
async fn served_through(db: &TestDatabase, settings: &str) -> Ended {
    let pooler = PgBouncer::before(&db.config, settings).await;
    let user = User::new().with("DATABASE_URL", connection_string(&pooler.config));
    let ended = user.run(&["serve", "--listen", "127.0.0.1:0"]).await;
    let sql = connect(db).await;
    let written = "SELECT count(*) FROM pg_namespace WHERE nspname = 'agentpool'";
    let locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'
                 AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    for query in [written, locks] {
        assert_eq!(sql.query_one(query, &[]).await.unwrap().get::<_, i64>(0), 0, "{query}");
    }
    ended
}

#[tokio::test(flavor = "multi_thread")]
async fn f35_a_pooler_that_takes_no_settings_is_refused_with_what_to_do() {
    let ended = served_through(&fresh_database().await, "").await.expect(78);
    assert!(ended.stderr.contains("--database-direct-url"), "{}", ended.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn f35_a_pooler_that_swallows_notifications_is_noticed_and_refused_with_what_to_do() {
    let settings = "ignore_startup_parameters = options,extra_float_digits";
    let ended = served_through(&fresh_database().await, settings).await.expect(78);
    assert!(ended.stderr.contains("does not deliver notifications"), "{}", ended.stderr);
    assert!(ended.stderr.contains("--database-direct-url"), "{}", ended.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn f35_doctor_names_a_pooler_that_swallows_notifications() {
    let pooler = PgBouncer::before(&fresh_database().await.config, "").await;
    let user = User::new();
    let ended = user.run(&["doctor", "--database-url", &connection_string(&pooler.config)]).await.expect(1);
    assert!(ended.stdout.contains("--database-direct-url"), "{}", ended.stdout);
}
