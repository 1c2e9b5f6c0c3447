//! The traps of a queue on Postgres, each one tried and seen to fail without the mechanism that its test names.

use crate::support::queue::{Queue, agent, batch, completed, ended, plain, requeued};
use agentpool::dispatch::pg_source::PgSource;
use agentpool::dispatch::rescuer::LeaseWatch;
use agentpool::dispatch::task_source::{
    AppendOutcome, FinishOutcome, PermissionAsk, SourceError, TaskSource, TurnBegin, TurnResult,
};
use agentpool::domain::agent::BackendKind;
use agentpool::domain::change::{ChangeOperation, FileChange};
use agentpool::domain::failure::FailureReason;
use agentpool::domain::permission::{PermissionKind, PermissionRequest};
use agentpool::domain::task::{ClaimedTask, TaskStatus};
use agentpool::domain::usage::Usage;
use agentpool::store::StoreError;
use agentpool::store::tasks::NewTask;
use futures::StreamExt;
use std::sync::Arc;
use std::time::Duration;
use tokio_postgres::{AsyncMessage, NoTls};
use uuid::Uuid;

fn begin(task: &ClaimedTask) -> TurnBegin {
    TurnBegin {
        lease: task.lease,
        checkpoint: "c0ffee".into(),
        agent: task.agent.clone(),
        backend: BackendKind::Scripted,
        agent_session_id: "conversation".into(),
        server_port: None,
        config_hash: "h".into(),
    }
}

fn change() -> FileChange {
    FileChange {
        path: "a.txt".into(),
        path_raw: None,
        old_path: None,
        operation: ChangeOperation::Create,
        old_mode: None,
        new_mode: Some("100644".into()),
        binary: false,
        old_blob: None,
        new_blob: Some("b10b".into()),
        diff: Some("+hi".into()),
        additions: 1,
        deletions: 0,
    }
}

fn result(task: &ClaimedTask) -> TurnResult {
    let usage = Usage { input_tokens: 3, ..Usage::default() };
    TurnResult {
        lease: task.lease,
        agent: task.agent.clone(),
        output: Some("done".into()),
        checkpoint: Some("c0de".into()),
        changes: vec![change()],
        usage: Some(("m".into(), usage)),
    }
}

fn question() -> PermissionAsk {
    let request = PermissionRequest {
        agent_request_id: "q1".into(),
        kind: PermissionKind::Tool,
        title: "bash".into(),
        payload: serde_json::json!({}),
    };
    PermissionAsk { request, answered: None, deadline: None }
}

/// An open transaction of a client with psql that asks to cancel these tasks and never commits.
async fn open_cancel(queue: &Queue, tasks: &[Uuid]) -> tokio_postgres::Client {
    let psql = queue.psql().await;
    psql.batch_execute("SET ROLE agentpool_client; BEGIN").await.unwrap();
    let ask = "UPDATE agentpool.tasks SET cancel_requested_at = now() WHERE id = ANY ($1)";
    assert_eq!(psql.execute(ask, &[&tasks]).await.unwrap() as usize, tasks.len());
    psql
}

// A statement that waits for a lock fails after five seconds and is repeated a few times: while the open transaction of these
// tests lasts, whoever waits for it ends with an error, so a plain unwrap proves that nobody did.

#[tokio::test]
async fn trap_1_an_open_psql_insert_does_not_delay_renewals() {
    let queue = Queue::new().await;
    let (session, node) = (queue.session().await, queue.node().await);
    queue.put_all(session, &["runs", "next"]).await;
    let task = node.take_one().await;
    let psql = queue.psql().await;
    let open = format!(
        "SET ROLE agentpool_client; BEGIN;
         INSERT INTO agentpool.tasks (session_id, agent, prompt) VALUES ('{session}', 'a', 'open')"
    );
    psql.batch_execute(&open).await.unwrap();
    assert_eq!(node.source.renew(&[task.lease]).await.unwrap().len(), 1);
    node.source.begin_turn(&begin(&task)).await.unwrap();
    assert_eq!(node.say(task.lease, 0, &["hi"]).await, AppendOutcome::Done);
    node.source.store_result(&result(&task)).await.unwrap();
    node.complete(&task).await;
    assert_eq!(node.drain().await, ["next"]);
    psql.batch_execute("COMMIT").await.unwrap();
    assert_eq!(node.drain().await, ["open"]);
}

#[tokio::test]
async fn trap_1_an_open_psql_cancel_of_a_running_task_holds_up_nothing_else() {
    let queue = Queue::new().await;
    let node = queue.node().await;
    let sessions = [queue.session().await, queue.session().await, queue.session().await];
    for session in sessions {
        queue.put_all(session, &["runs", "next"]).await;
    }
    let tasks = node.take(3).await;
    let leases: Vec<_> = tasks.iter().map(|task| task.lease).collect();
    let psql = open_cancel(&queue, &[leases[0].task.0]).await;
    assert_eq!(node.source.renew(&leases).await.unwrap().len(), 3);
    for task in &tasks {
        node.source.begin_turn(&begin(task)).await.unwrap();
        assert_eq!(node.say(task.lease, 0, &["hi"]).await, AppendOutcome::Done);
    }
    // The result of the locked task cannot be stored yet; that is said at once, and the lane is free for renewals meanwhile.
    let stored = node.source.store_result(&result(&tasks[0])).await;
    assert!(matches!(stored, Err(SourceError::Unavailable(_))), "{stored:?}");
    let ends: Vec<_> = tasks.iter().map(completed).collect();
    use FinishOutcome::{Again, Done};
    assert_eq!(node.finish(&ends).await, [Again, Done, Done]);
    assert_eq!(node.take(9).await.len(), 2, "the other lanes go on");
    assert_eq!(node.source.renew(&leases[..1]).await.unwrap().len(), 1, "the lease stays");
    psql.batch_execute("COMMIT").await.unwrap();
    node.source.store_result(&result(&tasks[0])).await.unwrap();
    assert_eq!(node.finish(&ends[..1]).await, [Done]);
}

#[tokio::test]
async fn trap_1_an_open_psql_cancel_of_queued_tasks_holds_up_only_their_lane() {
    let queue = Queue::new().await;
    let (held, free, node) = (queue.session().await, queue.session().await, queue.node().await);
    let ids = queue.put_all(held, &["1", "2", "3"]).await;
    queue.put(&plain(free, "free")).await;
    let psql = open_cancel(&queue, &ids[1..2]).await;
    let mut ran = node.drain().await;
    ran.sort();
    assert_eq!(ran, ["1", "free"], "the third may not overtake the second");
    let closed = queue.store.close_session(held).await;
    assert!(matches!(closed, Err(StoreError::Busy(_))), "{closed:?}");
    psql.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(node.drain().await, ["2", "3"]);
    queue.assert_lanes_are_sound().await;
}

#[tokio::test]
async fn trap_1_a_rescue_does_not_wait_for_an_open_psql() {
    let queue = Queue::new().await;
    let (dead, node) = (queue.node().await, queue.node().await);
    for _ in 0..2 {
        queue.put(&plain(queue.session().await, "x")).await;
    }
    let tasks = dead.take(2).await;
    let psql = open_cancel(&queue, &[tasks[0].lease.task.0]).await;
    let (foreign, _) = node.source.look().await.unwrap();
    assert_eq!(foreign.len(), 2);
    assert_eq!(node.source.rescue(&foreign, false).await.unwrap(), 1);
    assert_eq!(queue.status(tasks[0].lease.task.0).await, "dispatched");
    assert_eq!(queue.status(tasks[1].lease.task.0).await, "queued");
    psql.batch_execute("COMMIT").await.unwrap();
    assert_eq!(node.source.rescue(&foreign, false).await.unwrap(), 1);
    assert_eq!(queue.status(tasks[0].lease.task.0).await, "cancelled");
}

#[tokio::test]
async fn trap_2_a_lane_that_a_claim_passed_over_is_not_forgotten() {
    let queue = Queue::new().await;
    let (session, node) = (queue.session().await, queue.node().await);
    queue.put(&plain(session, "x")).await;
    node.admit().await;
    let other = queue.psql().await;
    other.batch_execute("BEGIN; SELECT FROM agentpool.lanes FOR UPDATE").await.unwrap();
    let tick = node.tick(&[], 1, &["a"]).await;
    assert!(tick.claimed.is_empty() && tick.more, "an empty claim says that there is something");
    other.batch_execute("COMMIT").await.unwrap();
    assert_eq!(node.tick(&[], 1, &["a"]).await.claimed.len(), 1);
}

#[tokio::test]
async fn trap_2_a_task_whose_admission_another_node_had_in_hand_is_not_forgotten() {
    let queue = Queue::new().await;
    let (session, node) = (queue.session().await, queue.node().await);
    let other = queue.psql().await;
    other.batch_execute("BEGIN; SELECT pg_advisory_xact_lock(1095782476, 1)").await.unwrap();
    queue.put(&plain(session, "x")).await;
    node.admit().await;
    let tick = node.tick(&[], 1, &["a"]).await;
    assert!(tick.claimed.is_empty() && tick.more);
    other.batch_execute("COMMIT").await.unwrap();
    node.take_one().await;
}

#[tokio::test]
async fn trap_2_a_finish_whose_next_head_wants_another_nodes_agent_wakes_that_node() {
    let queue = Queue::new().await;
    let (session, node) = (queue.session().await, queue.node().await);
    for (prompt, name) in [("1", "a"), ("2", "a"), ("3", "b")] {
        queue.put(&NewTask { agent: name.into(), ..plain(session, prompt) }).await;
    }
    node.admit().await;
    let (client, mut connection) = queue.db.config.connect(NoTls).await.unwrap();
    let (tell, mut heard) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut messages = futures::stream::poll_fn(move |cx| connection.poll_message(cx));
        while let Some(Ok(message)) = messages.next().await {
            if let AsyncMessage::Notification(note) = message {
                let _ = tell.send(note.payload().to_owned());
            }
        }
    });
    client.batch_execute("LISTEN tasks_new").await.unwrap();
    let first = node.claim(1, &["a"]).await.remove(0);
    let tick = node.tick(&[completed(&first)], 1, &["a"]).await;
    queue.sql.batch_execute("NOTIFY tasks_new, 'a is next'").await.unwrap();
    node.tick(&[completed(&tick.claimed[0])], 1, &["a"]).await;
    queue.sql.batch_execute("NOTIFY tasks_new, 'b is next'").await.unwrap();
    let mut notes = Vec::new();
    while notes.last().is_none_or(|note| note != "b is next") {
        notes.push(heard.recv().await.unwrap());
    }
    assert_eq!(notes, ["a is next", "", "b is next"], "one hint, by the finish that left a lane to others");
}

#[tokio::test]
async fn trap_3_phantom_lanes_are_demoted_by_the_claim_that_meets_them() {
    let queue = Queue::new().await;
    let node = queue.node().await;
    for _ in 0..16 {
        queue.put(&plain(queue.session().await, "phantom")).await;
    }
    node.admit().await;
    let drift =
        "UPDATE agentpool.tasks SET status = 'cancelled', finished_at = now(); DELETE FROM agentpool.tasks";
    queue.sql.batch_execute(drift).await.unwrap();
    queue.put(&plain(queue.session().await, "real")).await;
    node.admit().await;
    let mut claimed = Vec::new();
    for _ in 0..5 {
        claimed.extend(node.claim(4, &["a"]).await);
    }
    assert_eq!(claimed.len(), 1, "sixteen phantoms, four a claim, and then the real one");
    assert_eq!(queue.one::<i64>("SELECT count(*) FROM agentpool.lanes WHERE state = 1").await, 0);
    queue.assert_lanes_are_sound().await;
}

#[tokio::test]
async fn trap_3_lanes_with_locked_heads_step_aside() {
    let queue = Queue::new().await;
    let node = queue.node().await;
    let mut locked = Vec::new();
    for _ in 0..4 {
        locked.push(queue.put(&plain(queue.session().await, "locked")).await);
    }
    node.admit().await;
    let psql = open_cancel(&queue, &locked).await;
    queue.put(&plain(queue.session().await, "free")).await;
    node.admit().await;
    let mut claimed = Vec::new();
    for _ in 0..3 {
        claimed.extend(node.claim(2, &["a"]).await);
    }
    assert_eq!(claimed.len(), 1, "two steps aside for the four, and then the free one");
    psql.batch_execute("ROLLBACK").await.unwrap();
    queue.until("SELECT bool_and(wake_at <= clock_timestamp()) FROM agentpool.lanes WHERE state = 3").await;
    assert_eq!(node.take(9).await.len(), 4, "they come back by themselves");
}

#[tokio::test]
async fn trap_4_a_cancel_never_closes_a_circle_of_waits() {
    let queue = Queue::new().await;
    let node = queue.node().await;
    for _ in 0..2 {
        queue.put(&plain(queue.session().await, "x")).await;
    }
    let tasks = node.take(2).await;
    let psql = open_cancel(&queue, &[tasks[0].lease.task.0]).await;
    let ends: Vec<_> = tasks.iter().map(completed).collect();
    assert_eq!(node.finish(&ends).await, [FinishOutcome::Again, FinishOutcome::Done]);
    let other = format!(
        "UPDATE agentpool.tasks SET cancel_requested_at = now() WHERE id = '{}'; COMMIT",
        tasks[1].lease.task
    );
    psql.batch_execute(&other).await.unwrap();
    assert_eq!(node.finish(&ends[..1]).await, [FinishOutcome::Done]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn trap_4_cancels_claims_and_finishes_never_deadlock() {
    let queue = Arc::new(Queue::new().await);
    let nodes = [queue.node().await, queue.node().await, queue.node().await];
    let mut ids = Vec::new();
    for _ in 0..12 {
        let session = queue.session().await;
        ids.extend(queue.put_all(session, &["1", "2", "3", "4", "5", "6"]).await);
    }
    let mut cancels = tokio::task::JoinSet::new();
    for descending in [false, true] {
        let (psql, mut ids) = (queue.psql().await, ids.clone());
        if descending {
            ids.reverse();
        }
        cancels.spawn(async move {
            for pair in ids.chunks(3) {
                let ask = "UPDATE agentpool.tasks SET cancel_requested_at = clock_timestamp() WHERE id = $1";
                psql.batch_execute("BEGIN").await.unwrap();
                psql.execute(ask, &[&pair[0]]).await.unwrap();
                psql.batch_execute("COMMIT").await.unwrap();
            }
        });
    }
    let run = async |node: &crate::support::queue::Node| {
        let mut ends = Vec::new();
        loop {
            node.admit().await;
            let tick = node.tick(&ends, 4, &["a"]).await;
            let again = ends.iter().zip(&tick.finished).filter(|(_, end)| **end == FinishOutcome::Again);
            let mut next: Vec<_> = again.map(|(end, _)| end.clone()).collect();
            next.extend(tick.claimed.iter().map(|task| match task.attempt {
                1 => requeued(task, Duration::ZERO, FailureReason::Drained, false),
                _ => completed(task),
            }));
            let leases: Vec<_> = next.iter().map(|end| end.lease).collect();
            node.source.renew(&leases).await.unwrap();
            let open = "SELECT count(*) FROM agentpool.tasks WHERE finished_at IS NULL";
            if next.is_empty() && queue.one::<i64>(open).await == 0 {
                return;
            }
            ends = next;
        }
    };
    tokio::join!(run(&nodes[0]), run(&nodes[1]), run(&nodes[2]));
    while let Some(cancel) = cancels.join_next().await {
        cancel.unwrap();
    }
    drop(nodes);
    queue.assert_lanes_are_sound().await;
    queue.assert_no_deadlocks().await;
}

#[tokio::test]
async fn trap_5_a_zombies_event_waits_for_the_fence_and_then_is_refused() {
    let queue = Queue::new().await;
    let (session, node) = (queue.session().await, queue.node().await);
    queue.put(&plain(session, "x")).await;
    let task = node.take_one().await;
    assert_eq!(node.say(task.lease, 0, &["one"]).await, AppendOutcome::Done);
    // Somebody takes the lane over, and has not committed yet.
    let thief = queue.psql().await;
    thief.batch_execute("BEGIN; UPDATE agentpool.lanes SET fence = fence + 1").await.unwrap();
    let source = node.source.clone();
    let zombie = tokio::spawn(async move { source.append(&[batch(task.lease, 2, &["zombie"])]).await });
    queue.until_blocked("appends events of several turns").await;
    thief.batch_execute("COMMIT").await.unwrap();
    assert_eq!(zombie.await.unwrap().unwrap(), [AppendOutcome::LostLease]);
    let mut owner = task.lease;
    owner.fence.0 += 1;
    assert_eq!(node.say(owner, 1, &["two"]).await, AppendOutcome::Done, "the true owner's number is free");
    let said: Vec<String> =
        queue.one("SELECT array_agg(content ORDER BY seq) FROM agentpool.task_messages").await;
    assert_eq!(said, ["one", "two"]);
}

/// Everything that a report could have changed.
async fn fingerprint(queue: &Queue) -> String {
    queue
        .one(
            "SELECT concat_ws(' | ',
                (SELECT string_agg(t::text, ';' ORDER BY id) FROM agentpool.tasks t),
                (SELECT string_agg(l::text, ';' ORDER BY session_id) FROM agentpool.lanes l),
                (SELECT string_agg(s::text, ';' ORDER BY session_id) FROM agentpool.session_streams s),
                (SELECT string_agg(m::text, ';' ORDER BY pos) FROM agentpool.task_messages m),
                (SELECT string_agg(a::text, ';' ORDER BY agent) FROM agentpool.agent_sessions a),
                (SELECT string_agg(c::text, ';' ORDER BY id) FROM agentpool.checkpoints c),
                (SELECT string_agg(c::text, ';' ORDER BY id) FROM agentpool.pending_changes c),
                (SELECT string_agg(u::text, ';' ORDER BY task_id) FROM agentpool.task_usage u),
                (SELECT string_agg(p::text, ';' ORDER BY id) FROM agentpool.permission_requests p))",
        )
        .await
}

#[tokio::test]
async fn trap_5_nothing_that_a_zombie_reports_is_written() {
    let queue = Queue::new().await;
    let (session, node) = (queue.session().await, queue.node().await);
    queue.put_all(session, &["x", "y"]).await;
    let zombie = node.take_one().await;
    node.finish(&[requeued(&zombie, Duration::ZERO, FailureReason::NodeLost, false)]).await;
    let owner = node.take_one().await;
    node.source.begin_turn(&begin(&owner)).await.unwrap();
    node.say(owner.lease, 0, &["mine"]).await;
    let before = fingerprint(&queue).await;
    assert_eq!(node.say(zombie.lease, 0, &["zombie"]).await, AppendOutcome::LostLease);
    assert_eq!(node.say(zombie.lease, 1, &["zombie"]).await, AppendOutcome::LostLease);
    assert!(node.source.renew(&[zombie.lease]).await.unwrap().is_empty());
    let refusals = [
        node.source.begin_turn(&begin(&zombie)).await,
        node.source.store_result(&result(&zombie)).await,
        node.source.save_user_changes(&zombie.lease, &[change()]).await,
        node.source.ask_permission(&zombie.lease, &agent("a"), &question()).await,
    ];
    for refusal in refusals {
        assert!(matches!(refusal, Err(SourceError::LostLease)), "{refusal:?}");
    }
    for end in [TaskStatus::Completed, TaskStatus::Failed, TaskStatus::Cancelled] {
        assert_eq!(node.finish(&[ended(&zombie, end)]).await, [FinishOutcome::LostLease]);
    }
    assert_eq!(fingerprint(&queue).await, before);
    // The same reports from the owner do change it: the fingerprint sees them all.
    let mut last = before;
    node.source.ask_permission(&owner.lease, &agent("a"), &question()).await.unwrap();
    node.source.save_user_changes(&owner.lease, &[change()]).await.unwrap();
    node.source.store_result(&result(&owner)).await.unwrap();
    for step in [node.finish(&[completed(&owner)]).await] {
        assert_eq!(step, [FinishOutcome::Done]);
        let now = fingerprint(&queue).await;
        assert_ne!(now, last);
        last = now;
    }
    assert!(last.contains("cancelled"), "the finish closed the open question");
}

#[tokio::test]
async fn trap_6_a_finish_sees_what_was_admitted_while_it_waited_for_the_lane() {
    let queue = Queue::new().await;
    let (session, node) = (queue.session().await, queue.node().await);
    queue.put(&plain(session, "runs")).await;
    let task = node.take_one().await;
    let next = queue.put(&NewTask { priority: Some(50), ..plain(session, "next") }).await;
    let admission = queue.psql().await;
    admission.batch_execute("BEGIN; SELECT FROM agentpool.lanes FOR UPDATE").await.unwrap();
    let (source, end) = (node.source.clone(), completed(&task));
    let finish = tokio::spawn(async move {
        let want = agentpool::dispatch::task_source::Want { hands: 0, agents: Vec::new() };
        source.tick(&[end], &want).await
    });
    queue.until_blocked("FOR UPDATE OF l").await;
    let admit = "UPDATE agentpool.tasks SET lane_position = 2 WHERE lane_position IS NULL;
                 UPDATE agentpool.lanes SET admitted = 2; COMMIT";
    admission.batch_execute(admit).await.unwrap();
    assert_eq!(finish.await.unwrap().unwrap().finished, [FinishOutcome::Done]);
    assert_eq!(queue.lane(session, "head_task").await, next.to_string());
    assert_eq!(
        (queue.lane(session, "state").await, queue.lane(session, "prio").await),
        ("1".into(), "50".into())
    );
    queue.assert_lanes_are_sound().await;
}

#[tokio::test]
async fn trap_7_an_expired_lane_whose_cancel_was_asked_ends_as_cancelled() {
    let queue = Queue::new().await;
    let (dead, node) = (queue.node().await, queue.node().await);
    // Only its home could run it again, but nobody needs to.
    let session = queue.local_session(dead.id).await;
    let ids = queue.put_all(session, &["x", "y"]).await;
    dead.take_one().await;
    queue.store.ask_cancel(ids[0]).await.unwrap();
    let (foreign, _) = node.source.look().await.unwrap();
    assert_eq!(node.source.rescue(&foreign, false).await.unwrap(), 1);
    let row = queue.store.task(ids[0]).await.unwrap().unwrap();
    assert_eq!((row.status.as_str(), row.failure_reason, row.error), ("cancelled", None, None));
    assert_eq!(queue.lane(session, "head_task").await, ids[1].to_string());
    queue.assert_lanes_are_sound().await;
}

#[tokio::test]
async fn trap_8_the_queues_statements_are_prepared_and_stand_in_no_function() {
    let queue = Queue::new().await;
    let functions: i64 = queue
        .one("SELECT count(*) FROM pg_proc WHERE pronamespace = 'agentpool'::regnamespace AND prosrc ~* 'agentpool.lanes'")
        .await;
    assert_eq!(functions, 0, "a function's statement is planned as part of its caller's");
    let source = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/src/store/queue.rs")).unwrap();
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
