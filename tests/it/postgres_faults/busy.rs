//! A pool that is used up, and statements that another writer is in the way of.

use crate::support::node::{PATIENCE, TestNode};
use crate::support::queue::{Queue, plain};
use agentpool::dispatch::task_source::{SourceError, TaskSource};
use agentpool::store::Store;
use agentpool::wire::api::Problem;
use reqwest::{Method, StatusCode};
use serde_json::json;
use tokio::task::JoinSet;

#[tokio::test(flavor = "multi_thread")]
async fn f37_a_pool_used_up_for_longer_than_a_lease_costs_no_lease_and_the_api_says_so() {
    let node = TestNode::scripted().await;
    let session = node.session().await.id;
    let task = node.submit(session, "scripted", "SLOW:1200").await;
    node.follow(task.id, |event| event.kind == "text").await;
    // Whoever submits waits for this lock, on a connection of the engine; renewals do not.
    let psql = node.sql().await;
    psql.batch_execute("BEGIN; LOCK TABLE agentpool.idempotency_keys IN ACCESS EXCLUSIVE MODE")
        .await
        .unwrap();
    let mut callers = JoinSet::new();
    for caller in 0..40 {
        let node = node.clone();
        let body = json!({"session_id": session, "agent": "scripted", "prompt": "SAY: hi"});
        callers.spawn(async move {
            let request = node.request(Method::POST, "/api/tasks").json(&body);
            request.header("idempotency-key", format!("{caller}")).send().await.unwrap()
        });
    }
    let lease = "SELECT lease_until FROM agentpool.lanes WHERE state = 2";
    let sql = node.sql().await;
    let before: chrono::DateTime<chrono::Utc> = sql.query_one(lease, &[]).await.unwrap().get(0);
    let renewed = format!(
        "SELECT coalesce(bool_and(lease_until > '{}' AND lease_until > clock_timestamp()), false) FROM agentpool.lanes WHERE state = 2",
        before + chrono::TimeDelta::seconds(15)
    );
    node.until(&renewed).await;
    let mut shed = 0;
    while let Some(answer) =
        tokio::time::timeout(PATIENCE, callers.join_next()).await.expect("nobody waits for ever")
    {
        let answer = answer.unwrap();
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(answer.headers().contains_key("retry-after"));
        let said: Problem = answer.json().await.unwrap();
        shed += usize::from(said.detail.contains("connections to the database are all in use"));
    }
    assert!(shed > 0, "the pool was never used up");
    psql.batch_execute("ROLLBACK").await.unwrap();
    let (task, _) = node.finish(task.id).await;
    assert_eq!((task.status.as_str(), task.attempt, task.failures), ("completed", 1, 0));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f39_a_renewal_that_postgres_sacrificed_to_end_a_deadlock_is_tried_again() {
    let queue = Queue::new().await;
    let node = queue.node().await;
    for _ in 0..2 {
        queue.put(&plain(queue.session().await, "x")).await;
    }
    let mut leases: Vec<_> = node.take(2).await.iter().map(|task| task.lease).collect();
    leases.sort_by_key(|lease| lease.session.0);
    let lock = |n: usize| {
        format!("SELECT FROM agentpool.lanes WHERE session_id = '{}' FOR UPDATE", leases[n].session)
    };
    let psql = queue.psql().await;
    // It waits for longer than the renewal before it looks for a deadlock: the renewal is the victim.
    psql.batch_execute(&format!("SET deadlock_timeout = '1min'; BEGIN; {}", lock(1))).await.unwrap();
    let (source, held) = (node.source.clone(), leases.clone());
    let renewal = tokio::spawn(async move { source.renew(&held).await });
    queue.until_blocked("extends the leases").await;
    psql.batch_execute(&lock(0)).await.unwrap();
    psql.batch_execute("COMMIT").await.unwrap();
    assert_eq!(renewal.await.unwrap().unwrap().len(), 2);
    let deadlocks = "SELECT deadlocks > 0 FROM pg_stat_database WHERE datname = current_database()";
    queue.until(deadlocks).await;
}

#[tokio::test]
async fn f39_a_serialisation_failure_is_tried_again_a_few_times_and_then_told() {
    let queue = Queue::new().await;
    let node = queue.node().await;
    queue.put(&plain(queue.session().await, "x")).await;
    let task = node.take_one().await;
    let refuse = "CREATE SEQUENCE tries;
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF nextval('tries') <= current_setting('test.refusals')::int THEN
                RAISE EXCEPTION 'not now' USING ERRCODE = '40001';
            END IF;
            RETURN NEW;
        END $$;
        CREATE TRIGGER refuse BEFORE UPDATE ON agentpool.lanes FOR EACH ROW EXECUTE FUNCTION refuse()";
    queue.sql.batch_execute(refuse).await.unwrap();
    let refusals = async |count: u32| {
        let name = &queue.db.name;
        let set =
            format!("ALTER DATABASE {name} SET test.refusals = {count}; SELECT setval('tries', 1, false)");
        queue.sql.batch_execute(&set).await.unwrap();
        // The setting is that of new connections.
        let store = Store::new(queue.db.config.clone(), queue.db.config.clone());
        let renewed = store.renew(&[(task.lease.session.0, task.lease.fence.0)]).await;
        (renewed, queue.one::<i64>("SELECT last_value FROM tries").await)
    };
    let (renewed, tries) = refusals(3).await;
    assert_eq!((renewed.unwrap().len(), tries), (1, 4));
    let (renewed, tries) = refusals(1000).await;
    let told = SourceError::from(renewed.unwrap_err());
    assert!(matches!(&told, SourceError::Unavailable(_)), "{told:?}");
    assert_eq!(tries, 6, "bounded");
}

#[tokio::test(flavor = "multi_thread")]
async fn f39_two_nodes_work_side_by_side_on_a_database_that_is_serializable_by_default() {
    let queue = Queue::new().await;
    let strict =
        format!("ALTER DATABASE {} SET default_transaction_isolation = 'serializable'", queue.db.name);
    queue.sql.batch_execute(&strict).await.unwrap();
    let only = "CREATE FUNCTION only_read_committed() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF current_setting('transaction_isolation') <> 'read committed' THEN
                RAISE EXCEPTION 'a lane was written in a % transaction', current_setting('transaction_isolation');
            END IF;
            RETURN NEW;
        END $$;
        CREATE TRIGGER only_read_committed BEFORE UPDATE ON agentpool.lanes FOR EACH ROW EXECUTE FUNCTION only_read_committed()";
    queue.sql.batch_execute(only).await.unwrap();
    let nodes = [queue.node().await, queue.node().await];
    for _ in 0..20 {
        let session = queue.session().await;
        queue.put_all(session, &["1", "2", "3"]).await;
    }
    let (one, two) = tokio::join!(nodes[0].drain(), nodes[1].drain());
    // What the one was about to admit when the other found nothing.
    let rest = nodes[0].drain().await;
    assert_eq!(one.len() + two.len() + rest.len(), 60);
    queue.assert_lanes_are_sound().await;
}
