//! Traps 8 and 9: plans that stay flat, and time limits.

use crate::support::queue::{Queue, plain};
use agentpool::dispatch::pg_source::PgSource;
use agentpool::dispatch::rescuer::LeaseWatch;
use agentpool::dispatch::task_source::TaskSource;
use agentpool::store::StoreError;
use std::sync::Arc;
use uuid::Uuid;

#[tokio::test]
async fn trap_8_the_queues_statements_are_prepared_and_stand_in_no_function() {
    let queue = Queue::new().await;
    let functions: i64 = queue
        .one("SELECT count(*) FROM pg_proc WHERE pronamespace = 'agentpool'::regnamespace AND prosrc ~* 'agentpool.lanes'")
        .await;
    assert_eq!(functions, 0, "a function's statement is planned as part of its caller's");
    let read =
        |name| std::fs::read_to_string(format!("{}/src/store/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let source = read("queue.rs") + &read("leases.rs");
    let uses = source.matches("sql!(\"").count();
    let prepared = source.matches("prepare_cached(sql!(\"").count();
    assert!(uses > 10 && uses == prepared, "{prepared} of {uses} statements are prepared");
}

#[tokio::test]
async fn trap_8_no_statement_of_the_queue_reads_a_whole_table() {
    let queue = Queue::new().await;
    let (node, busy) = (queue.node().await, queue.session().await);
    let project: Uuid = queue.one("SELECT id FROM agentpool.projects").await;
    let load = format!(
        "INSERT INTO agentpool.sessions (project_id) SELECT '{project}' FROM generate_series(1, 2000);
         INSERT INTO agentpool.tasks (session_id, agent, prompt, lane_position)
             SELECT id, 'a', 'x', 1 FROM agentpool.sessions;
         INSERT INTO agentpool.tasks (session_id, agent, prompt, lane_position)
             SELECT '{busy}', 'a', 'x', n FROM generate_series(2, 20000) n;
         INSERT INTO agentpool.session_streams (session_id) SELECT id FROM agentpool.sessions;
         INSERT INTO agentpool.lanes (session_id, state, head_task, head_agent, admitted)
             SELECT session_id, 1, id, agent, 1 FROM agentpool.tasks WHERE lane_position = 1;
         ANALYZE;"
    );
    queue.sql.batch_execute(&load).await.unwrap();
    queue.sql.batch_execute("SET plan_cache_mode = force_generic_plan").await.unwrap();
    let sessions = format!("ARRAY['{busy}']::uuid[]");
    let task = format!("ARRAY['{}']::uuid[]", Uuid::now_v7());
    let calls = [
        ("admit_candidates", "500".to_owned()),
        ("admit_tasks", format!("{sessions}, 500")),
        ("end_queued", sessions.clone()),
        ("settle_lanes", sessions.clone()),
        ("claim", format!("'{}', '{}', 8, ARRAY['a'], 15", node.id, node.incarnation)),
        ("lock_leases", format!("{sessions}, ARRAY[1]")),
        (
            "finish_tasks",
            format!(
                "{sessions}, ARRAY[1], {task}, ARRAY['completed'], ARRAY[0], ARRAY[NULL], ARRAY[NULL], ARRAY[0]"
            ),
        ),
        ("renew", format!("{sessions}, ARRAY[1], 15")),
        ("outlook", format!("'{}', ARRAY['a']", node.id)),
    ];
    for (name, arguments) in calls {
        let file = format!("{}/sql/queue/{name}.sql", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(file).unwrap();
        queue.sql.batch_execute(&format!("PREPARE {name} AS {text}")).await.unwrap();
        let explain = format!("EXPLAIN EXECUTE {name}({arguments})");
        let rows = queue.sql.query(&explain, &[]).await.unwrap();
        let plan: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        let plan = plan.join("\n");
        for table in ["tasks", "lanes"] {
            assert!(!plan.contains(&format!("Seq Scan on {table}")), "{name} reads all of {table}:\n{plan}");
        }
    }
    // And it works on that heap.
    assert_eq!(node.claim(8, &["a"]).await.len(), 8);
}

#[tokio::test]
async fn trap_9_neither_a_writer_nor_a_reader_waits_for_ever() {
    let queue = Queue::new().await;
    let id = queue.put(&plain(queue.session().await, "x")).await;
    let psql = queue.psql().await;
    psql.batch_execute("BEGIN; LOCK agentpool.tasks IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let both = async { tokio::join!(queue.store.ask_cancel(id), queue.store.task(id)) };
    let (asked, read) =
        tokio::time::timeout(crate::support::queue::DEADLINE, both).await.expect("a time limit");
    assert!(matches!(asked, Err(StoreError::Busy(_))), "{asked:?}");
    assert!(matches!(read, Err(StoreError::Busy(_))), "{read:?}");
    psql.batch_execute("COMMIT").await.unwrap();
    assert!(queue.store.ask_cancel(id).await.unwrap());
}

#[tokio::test]
async fn a_source_is_a_lease_watch_and_a_task_source() {
    // Both ends of the engine are objects: the dispatcher's and the rescuer's.
    let queue = Queue::new().await;
    let node = queue.node().await;
    let source: Arc<PgSource> = node.source.clone();
    let (task_source, watch): (Arc<dyn TaskSource>, Arc<dyn LeaseWatch>) = (source.clone(), source);
    task_source.admit().await.unwrap();
    assert_eq!(watch.me(), (node.id, node.incarnation));
}

#[tokio::test]
async fn trap_8_a_cancel_in_a_long_lane_reads_that_task_and_not_the_lane() {
    let queue = Queue::new().await;
    let (session, node) = (queue.session().await, queue.node().await);
    let id = queue.put(&plain(session, "asked")).await;
    node.admit().await;
    let load = format!(
        "INSERT INTO agentpool.tasks (session_id, agent, prompt, lane_position)
             SELECT '{session}', 'a', 'x', n FROM generate_series(2, 20000) n;
         UPDATE agentpool.tasks SET cancel_requested_at = now() WHERE id = '{id}';
         ANALYZE; SET plan_cache_mode = force_generic_plan"
    );
    queue.sql.batch_execute(&load).await.unwrap();
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/sql/queue/end_queued.sql");
    let end = std::fs::read_to_string(file).unwrap();
    queue.sql.batch_execute(&format!("PREPARE end_queued AS {end}")).await.unwrap();
    let explain =
        format!("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) EXECUTE end_queued(ARRAY['{session}']::uuid[])");
    let plan: serde_json::Value = queue.one(&explain).await;
    let pages = plan[0]["Plan"]["Shared Hit Blocks"].as_i64().unwrap()
        + plan[0]["Plan"]["Shared Read Blocks"].as_i64().unwrap();
    assert!(pages < 100, "{pages} pages for one task of 20,000: {plan:#}");
    assert_eq!(queue.status(id).await, "cancelled");
}
