//! The schema: it applies, it repeats the domain's lists, and it refuses what plain SQL must not put in.

use crate::support::cluster::fresh_database;
use crate::support::queue::{Queue, connect, plain};
use agentpool::dispatch::task_source::AppendOutcome;
use agentpool::domain::agent::{AgentName, BackendKind, PermissionRule};
use agentpool::domain::change::{ChangeOperation, ChangeStatus};
use agentpool::domain::checkpoint::CheckpointKind;
use agentpool::domain::failure::FailureReason;
use agentpool::domain::permission::{
    Access, PermissionDecision, PermissionKind, PermissionRequest, PermissionStatus,
};
use agentpool::domain::permission_rule::RuleDecision;
use agentpool::domain::session::{AgentSessionStatus, SessionStatus};
use agentpool::domain::task::{PROMPT_BYTES_MAX, TaskStatus};
use agentpool::domain::tool_output::LongOutput;
use agentpool::domain::turn::{LoggedEvent, ToolCall, ToolStatus, TurnEvent};
use agentpool::domain::usage::Usage;
use agentpool::store::migrate::{MigrateError, migrate};
use agentpool::store::{Store, StoreError};
use agentpool::wire::event::stored;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;
use tokio_postgres::error::SqlState;
use uuid::Uuid;

/// Runs a statement that must fail, and says with which SQLSTATE.
async fn refused(client: &tokio_postgres::Client, statement: &str) -> String {
    match client.batch_execute(statement).await {
        Ok(()) => panic!("was taken: {statement}"),
        Err(error) => {
            error.code().map_or_else(|| panic!("{statement}: {error:?}"), SqlState::code).to_owned()
        }
    }
}

const CHECK: &str = "23514";
const FOREIGN_KEY: &str = "23503";
const PRIVILEGE: &str = "42501";
const RAISED: &str = "P0001";

#[tokio::test]
async fn migrations_apply_on_an_empty_database_and_again() {
    let db = fresh_database().await;
    let store = Store::new(db.config.clone(), db.config.clone());
    migrate(&store).await.unwrap();
    let sql = connect(&db).await;
    let epoch = "SELECT epoch FROM agentpool.database_epoch";
    let before: String = sql.query_one(epoch, &[]).await.unwrap().get(0);
    migrate(&store).await.unwrap();
    let after: String = sql.query_one(epoch, &[]).await.unwrap().get(0);
    assert_eq!(before, after, "a second run changes nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn five_nodes_that_start_together_migrate_once() {
    let db = fresh_database().await;
    let starts = (0..5).map(|_| {
        let store = Store::new(db.config.clone(), db.config.clone());
        tokio::spawn(async move { migrate(&store).await })
    });
    for start in starts.collect::<Vec<_>>() {
        start.await.unwrap().unwrap();
    }
    let sql = connect(&db).await;
    let applied = sql.query_one("SELECT count(*) FROM agentpool.schema_history", &[]).await.unwrap();
    let files = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/sql/migrations")).unwrap().count();
    assert_eq!(usize::try_from(applied.get::<_, i64>(0)).unwrap(), files);
}

#[tokio::test]
async fn a_schema_newer_than_the_program_is_refused() {
    let queue = Queue::new().await;
    queue
        .sql
        .execute(
            "INSERT INTO agentpool.schema_history (version, name, applied_on, checksum)
             SELECT 999, 'from_the_future', applied_on, checksum FROM agentpool.schema_history LIMIT 1",
            &[],
        )
        .await
        .unwrap();
    let outcome = migrate(&queue.store).await;
    assert!(matches!(outcome, Err(MigrateError::Migration(_))), "{outcome:?}");
}

#[tokio::test]
async fn a_blank_prompt_that_had_slipped_in_is_ended_by_the_migration_and_not_run() {
    let queue = Queue::new().await;
    let session = queue.session().await;
    let before = format!(
        "ALTER TABLE agentpool.sessions DROP COLUMN permission_policy;
         ALTER TABLE agentpool.permission_requests DROP COLUMN repeats;
         ALTER TABLE agentpool.tasks DROP CONSTRAINT tasks_prompt_not_empty;
         ALTER TABLE agentpool.tasks ADD CONSTRAINT tasks_prompt_not_empty CHECK (btrim(prompt, E' \\t\\r\\n') <> '');
         INSERT INTO agentpool.tasks (session_id, agent, prompt)
             VALUES ('{session}', 'a', E'\\x0c\\u00a0'), ('{session}', 'a', 'x')"
    );
    queue.sql.batch_execute(&before).await.unwrap();
    let migration = include_str!("../../sql/migrations/V2__session_permissions.sql");
    queue.sql.batch_execute(migration).await.unwrap();
    let ended = "SELECT string_agg(prompt, ',') FROM agentpool.tasks WHERE cancel_requested_at IS NOT NULL";
    assert_eq!(queue.one::<String>(ended).await, "(blank)");
}

#[tokio::test]
async fn every_sql_file_is_prepared_against_the_schema() {
    let queue = Queue::new().await;
    let mut prepared = 0;
    for folder in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/sql")).unwrap() {
        let folder = folder.unwrap().path();
        if folder.ends_with("migrations") {
            continue;
        }
        for file in std::fs::read_dir(folder).unwrap() {
            let file = file.unwrap().path();
            let text = std::fs::read_to_string(&file).unwrap();
            assert!(text.starts_with("-- Purpose: "), "{} does not say what it is for", file.display());
            assert!(text.contains("Parameters"), "{} does not name its parameters", file.display());
            let outcome = queue.sql.prepare(&text).await;
            assert!(outcome.is_ok(), "{}: {:?}", file.display(), outcome.err());
            assert!(is_used(&file), "{} is run by no function of the store", file.display());
            prepared += 1;
        }
    }
    assert!(prepared > 50, "the walk found only {prepared} files");
}

/// Some file of the store names it.
fn is_used(file: &Path) -> bool {
    let folder = file.parent().unwrap().file_name().unwrap().to_str().unwrap();
    let name = format!("sql!(\"{folder}/{}\")", file.file_stem().unwrap().to_str().unwrap());
    std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src/store"))
        .unwrap()
        .map(|source| source.unwrap().path())
        .filter(|path| path.is_file())
        .any(|path| std::fs::read_to_string(path).unwrap().contains(&name))
}

/// The words of the CHECK on one column, as Postgres has them.
async fn check_list(queue: &Queue, table: &str, column: &str) -> Vec<String> {
    let rows = queue
        .sql
        .query(
            "SELECT ARRAY(SELECT m[1] FROM regexp_matches(pg_get_constraintdef(c.oid), '''([a-z_]+)''::text', 'g') m)
             FROM pg_constraint c JOIN pg_attribute a ON a.attrelid = c.conrelid AND c.conkey = ARRAY[a.attnum]
             WHERE c.contype = 'c' AND c.conrelid = ('agentpool.' || $1)::text::regclass AND a.attname = $2
               AND pg_get_constraintdef(c.oid) LIKE '%= ANY%'",
            &[&table, &column],
        )
        .await
        .unwrap();
    assert_eq!(rows.len(), 1, "{table}.{column} has one CHECK with a list");
    rows[0].get(0)
}

#[tokio::test]
async fn the_checks_repeat_the_enums_of_the_domain() {
    let queue = Queue::new().await;
    let words = |all: &[&str]| all.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let backends = words(&BackendKind::ALL.map(BackendKind::as_str));
    let lists: [(&str, &str, Vec<String>); 13] = [
        ("tasks", "status", words(&TaskStatus::ALL.map(TaskStatus::as_str))),
        ("tasks", "failure_reason", words(&FailureReason::ALL.map(FailureReason::as_str))),
        ("agents", "backend", backends.clone()),
        ("agent_sessions", "backend", backends),
        ("agent_sessions", "status", words(&AgentSessionStatus::ALL.map(AgentSessionStatus::as_str))),
        ("sessions", "permission_policy", words(&PermissionRule::ALL.map(PermissionRule::as_str))),
        ("sessions", "status", words(&SessionStatus::ALL.map(SessionStatus::as_str))),
        ("checkpoints", "kind", words(&CheckpointKind::ALL.map(CheckpointKind::as_str))),
        ("pending_changes", "operation", words(&ChangeOperation::ALL.map(ChangeOperation::as_str))),
        ("pending_changes", "status", words(&ChangeStatus::ALL.map(ChangeStatus::as_str))),
        ("permission_rules", "decision", words(&RuleDecision::ALL.map(RuleDecision::as_str))),
        ("permission_requests", "kind", words(&PermissionKind::ALL.map(PermissionKind::as_str))),
        ("permission_requests", "status", words(&PermissionStatus::ALL.map(PermissionStatus::as_str))),
    ];
    for (table, column, domain) in lists {
        assert_eq!(check_list(&queue, table, column).await, domain, "{table}.{column}");
    }
    let mut kinds: Vec<String> = Vec::new();
    for event in one_event_of_each_kind() {
        let kind = stored(event).kind.to_owned();
        // A question and its end have one word.
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    assert_eq!(check_list(&queue, "task_messages", "type").await, kinds, "task_messages.type");
}

/// In the order of the CHECK.
fn one_event_of_each_kind() -> Vec<LoggedEvent> {
    let call = ToolCall {
        call_id: "1".into(),
        tool: "bash".into(),
        status: ToolStatus::Running,
        title: None,
        input: None,
        output: None,
        locations: Vec::new(),
        diffs: Vec::new(),
    };
    let request = PermissionRequest {
        agent_request_id: "1".into(),
        kind: PermissionKind::Tool,
        access: Access::Unknown,
        title: "bash".into(),
        payload: Value::Null,
    };
    let said = [
        TurnEvent::Text("x".into()),
        TurnEvent::Reasoning("x".into()),
        TurnEvent::ToolCall(call.clone()),
        TurnEvent::ToolUpdate(call),
        TurnEvent::Plan(Vec::new()),
        TurnEvent::Commands(Vec::new()),
        TurnEvent::ModeChanged("x".into()),
        TurnEvent::Usage(Usage::default()),
        TurnEvent::Permission(request),
        TurnEvent::Retry { attempt: 1, message: "x".into() },
        TurnEvent::Notice("x".into()),
    ];
    let mut all: Vec<LoggedEvent> = said.into_iter().map(LoggedEvent::Agent).collect();
    let agent = AgentName::new("a").unwrap();
    all.push(LoggedEvent::TurnStarted { attempt: 1, agent, origin: "new" });
    let decision = PermissionDecision::AllowOnce;
    all.push(LoggedEvent::PermissionResolved { request: "1".into(), decision, expired: false });
    all.push(LoggedEvent::LongOutput {
        said: TurnEvent::Notice("x".into()),
        output: LongOutput { bytes: 1, packed: None },
    });
    all.push(LoggedEvent::TurnEnded { outcome: TaskStatus::Completed, reason: None });
    for event in &all {
        // A new variant stops the build here until it is in the list above.
        match event {
            LoggedEvent::LongOutput { .. }
            | LoggedEvent::TurnStarted { .. }
            | LoggedEvent::PermissionResolved { .. }
            | LoggedEvent::TurnEnded { .. } => {}
            LoggedEvent::Agent(
                TurnEvent::Text(_)
                | TurnEvent::Reasoning(_)
                | TurnEvent::ToolCall(_)
                | TurnEvent::ToolUpdate(_)
                | TurnEvent::Plan(_)
                | TurnEvent::Commands(_)
                | TurnEvent::ModeChanged(_)
                | TurnEvent::Usage(_)
                | TurnEvent::Permission(_)
                | TurnEvent::Retry { .. }
                | TurnEvent::Notice(_),
            ) => {}
        }
    }
    all
}

#[tokio::test]
async fn our_ids_are_version_7_and_follow_the_clock() {
    let queue = Queue::new().await;
    let ids: Vec<Uuid> = queue
        .one("SELECT array_agg(id) FROM (SELECT agentpool.uuid_v7() AS id FROM generate_series(1, 2000)) x")
        .await;
    for id in &ids {
        assert_eq!((id.get_version_num(), id.get_variant()), (7, uuid::Variant::RFC4122), "{id}");
    }
    let millis: Vec<i64> = ids.iter().map(|id| i64::try_from(id.as_u128() >> 80).unwrap()).collect();
    assert!(millis.is_sorted(), "later ids are not smaller");
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len());
    let drift: f64 = queue
        .one("SELECT abs(agentpool.uuid_v7_ms(agentpool.uuid_v7()) - extract(epoch FROM clock_timestamp()) * 1000)::float8")
        .await;
    assert!(drift < 1000.0, "{drift} ms beside the clock");
}

#[tokio::test]
async fn an_id_that_is_not_v7_or_out_of_time_is_refused() {
    let queue = Queue::new().await;
    let session = queue.session().await;
    let insert = |id: &str| {
        format!(
            "INSERT INTO agentpool.tasks (id, session_id, agent, prompt) VALUES ({id}, '{session}', 'a', 'hi')"
        )
    };
    assert_eq!(refused(&queue.sql, &insert("gen_random_uuid()")).await, CHECK);
    for age in ["- interval '25 hours'", "+ interval '25 hours'"] {
        let id = format!("overlay(agentpool.uuid_floor(now() {age})::text PLACING '7' FROM 15)::uuid");
        assert_eq!(refused(&queue.sql, &insert(&id)).await, CHECK, "{age}");
    }
    let id = "overlay(agentpool.uuid_floor(now() - interval '23 hours')::text PLACING '7' FROM 15)::uuid";
    queue.sql.batch_execute(&insert(id)).await.unwrap();
}

#[tokio::test]
async fn partitions_reach_two_weeks_ahead_and_there_is_no_default_one() {
    let queue = Queue::new().await;
    let default: bool = queue
        .one("SELECT partdefid <> 0 FROM pg_partitioned_table WHERE partrelid = 'agentpool.task_messages'::regclass")
        .await;
    assert!(!default);
    let session = queue.session().await;
    let insert = |offset: &str| {
        format!(
            "INSERT INTO agentpool.task_messages (task_id, seq, session_id, pos, type)
             VALUES (agentpool.uuid_floor(clock_timestamp() + interval '{offset}'), 1, '{session}', 1, 'text')"
        )
    };
    // A task may be a day older than its row, and run_at lets it start much later: its id stays.
    for offset in ["-1 day", "0", "1 day", "7 days", "13 days 23 hours"] {
        queue.sql.batch_execute(&insert(offset)).await.unwrap();
    }
    assert_eq!(refused(&queue.sql, &insert("60 days")).await, CHECK);
    assert_eq!(queue.store.make_partitions().await.unwrap(), 0, "nothing was missing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn partitions_made_by_two_nodes_at_once_are_made_once() {
    let queue = Queue::new().await;
    for table in queue
        .sql
        .query("SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'agentpool.task_messages'::regclass", &[])
        .await
        .unwrap()
    {
        queue.sql.batch_execute(&format!("DROP TABLE {}", table.get::<_, &str>(0))).await.unwrap();
    }
    let calls: Vec<_> = (0..6)
        .map(|_| {
            let store = queue.store.clone();
            tokio::spawn(async move { store.make_partitions().await })
        })
        .collect();
    let mut made = 0;
    for call in calls {
        made += call.await.unwrap().unwrap();
    }
    let there: i64 = queue
        .one("SELECT count(*) FROM pg_inherits WHERE inhparent = 'agentpool.task_messages'::regclass")
        .await;
    assert_eq!(i64::from(made), there);
}

#[tokio::test]
async fn new_partitions_do_not_wait_for_a_reader_nor_make_writers_wait() {
    let queue = Queue::new().await;
    let newest: String = queue
        .one("SELECT max(inhrelid::regclass::text) FROM pg_inherits WHERE inhparent = 'agentpool.task_messages'::regclass")
        .await;
    queue.sql.batch_execute(&format!("DROP TABLE {newest}")).await.unwrap();
    let reader = queue.psql().await;
    reader.batch_execute("BEGIN; SELECT count(*) FROM agentpool.task_messages").await.unwrap();
    assert_eq!(
        queue.store.make_partitions().await.unwrap(),
        1,
        "an open psql that has read the log is no obstacle"
    );
    reader.batch_execute("COMMIT").await.unwrap();
}

#[tokio::test]
async fn only_a_finished_task_can_be_deleted() {
    let queue = Queue::new().await;
    let (session, node) = (queue.session().await, queue.node().await);
    let id = queue.put(&plain(session, "one")).await;
    let delete = format!("DELETE FROM agentpool.tasks WHERE id = '{id}'");
    assert_eq!(refused(&queue.sql, &delete).await, RAISED);
    let task = node.take_one().await;
    assert_eq!(refused(&queue.sql, &delete).await, RAISED);
    node.complete(&task).await;
    queue.sql.batch_execute(&delete).await.unwrap();
    assert!(queue.store.task(id).await.unwrap().is_none());
}

#[tokio::test]
async fn plain_sql_cannot_put_in_what_cannot_run() {
    let queue = Queue::new().await;
    let session = queue.session().await;
    let insert = |session: &str, agent: &str, prompt: &str| {
        format!(
            "INSERT INTO agentpool.tasks (session_id, agent, prompt) VALUES ('{session}', '{agent}', {prompt})"
        )
    };
    let session = session.to_string();
    let nobody = Uuid::now_v7().to_string();
    assert_eq!(refused(&queue.sql, &insert(&session, "nobody", "'hi'")).await, FOREIGN_KEY);
    assert_eq!(refused(&queue.sql, &insert(&nobody, "a", "'hi'")).await, FOREIGN_KEY);
    for empty in ["''", "' '", "E'\\n\\t \\r'", "E'\\x0b\\x0c'", "E'\\u00a0\\u2003\\u3000 \\n'"] {
        assert_eq!(refused(&queue.sql, &insert(&session, "a", empty)).await, CHECK, "{empty}");
    }
    let longest = format!("repeat('x', {PROMPT_BYTES_MAX})");
    queue.sql.batch_execute(&insert(&session, "a", &longest)).await.unwrap();
    let longer = format!("repeat('x', {PROMPT_BYTES_MAX} + 1)");
    assert_eq!(refused(&queue.sql, &insert(&session, "a", &longer)).await, CHECK);
    let wide = format!("repeat('é', {PROMPT_BYTES_MAX} / 2 + 1)");
    assert_eq!(refused(&queue.sql, &insert(&session, "a", &wide)).await, CHECK, "bytes count, not letters");
    // The store says the same in its own words.
    let outcome = queue.store.enqueue(&plain(nobody.parse().unwrap(), "hi"), None).await;
    assert!(matches!(outcome, Err(StoreError::Refused { constraint: Some(_), .. })), "{outcome:?}");
}

#[tokio::test]
async fn a_client_may_put_work_in_and_ask_to_cancel_and_nothing_else() {
    let queue = Queue::new().await;
    let session = queue.session().await;
    let may = |privilege: &str, table: &str| {
        format!(
            "SELECT coalesce(string_agg(attname, ' ' ORDER BY attname), '') FROM pg_attribute
             WHERE attrelid = '{table}'::regclass AND attnum > 0 AND NOT attisdropped
               AND has_column_privilege('agentpool_client', attrelid, attnum, '{privilege}')"
        )
    };
    let tables: Vec<String> = queue
        .one("SELECT array_agg('agentpool.' || relname) FROM pg_class WHERE relnamespace = 'agentpool'::regnamespace AND relkind IN ('r', 'p')")
        .await;
    assert!(tables.len() > 20, "{tables:?}");
    for table in &tables {
        let (insert, update): (String, String) =
            (queue.one(&may("INSERT", table)).await, queue.one(&may("UPDATE", table)).await);
        let granted = match table.as_str() {
            "agentpool.tasks" => (
                "agent feature_values max_failures mode_id model priority prompt run_at session_id thinking_option_id",
                "cancel_requested_at",
            ),
            "agentpool.sessions" => ("project_id title", ""),
            _ => ("", ""),
        };
        assert_eq!((insert.as_str(), update.as_str()), granted, "{table}");
        let rest: bool = queue
            .one(&format!("SELECT has_table_privilege('agentpool_client', '{table}', 'DELETE, TRUNCATE, TRIGGER, REFERENCES')"))
            .await;
        assert!(!rest, "{table}");
    }
    let client = queue.psql().await;
    client.batch_execute("SET ROLE agentpool_client").await.unwrap();
    let put = format!(
        "INSERT INTO agentpool.tasks (session_id, agent, prompt, priority) VALUES ('{session}', 'a', 'hi', 5)"
    );
    client.batch_execute(&put).await.unwrap();
    client.batch_execute("UPDATE agentpool.tasks SET cancel_requested_at = now()").await.unwrap();
    for forbidden in [
        "UPDATE agentpool.tasks SET status = 'completed'",
        "UPDATE agentpool.tasks SET fence = 9",
        "DELETE FROM agentpool.tasks",
        "SELECT FROM agentpool.lanes FOR UPDATE",
        "UPDATE agentpool.lanes SET paused = true",
        "SELECT FROM agentpool.sessions FOR UPDATE",
        "INSERT INTO agentpool.task_messages (task_id, seq, session_id, pos, type) VALUES (agentpool.uuid_v7(), 1, agentpool.uuid_v7(), 1, 'text')",
    ] {
        assert_eq!(refused(&client, forbidden).await, PRIVILEGE, "{forbidden}");
    }
}

#[tokio::test]
async fn a_time_that_nobody_can_reckon_with_is_refused() {
    let queue = Queue::new().await;
    let (session, node) = (queue.session().await, queue.node().await);
    let mut latest = plain(session, "at the end of days");
    latest.run_at = Some("9999-12-31T00:00:00Z".parse().unwrap());
    let id = queue.put(&latest).await;
    for time in ["infinity", "-infinity", "290000-01-01", "10000-01-01", "1999-12-31 00:00:00+00"] {
        let insert = format!(
            "INSERT INTO agentpool.tasks (session_id, agent, prompt, run_at) VALUES ('{session}', 'a', 'hi', '{time}')"
        );
        assert_eq!(refused(&queue.sql, &insert).await, CHECK, "run_at {time}");
        let cancel = format!("UPDATE agentpool.tasks SET cancel_requested_at = '{time}'");
        assert_eq!(refused(&queue.sql, &cancel).await, CHECK, "cancel_requested_at {time}");
    }
    let tick = node.tick(&[], 1, &["a"]).await;
    assert!(tick.due_in.is_some() && !tick.more, "{tick:?}");
    // A date beyond our types is an error of the read, not a panic.
    let far = format!("UPDATE agentpool.tasks SET started_at = '290000-01-01' WHERE id = '{id}'");
    queue.sql.batch_execute(&far).await.unwrap();
    assert!(matches!(queue.store.task(id).await, Err(StoreError::Statement(_))));
}

#[tokio::test]
async fn a_task_that_waited_for_weeks_while_no_node_ran_can_still_log() {
    let queue = Queue::new().await;
    let (session, node) = (queue.session().await, queue.node().await);
    let old =
        "overlay(agentpool.uuid_floor(now() - interval '60 days 20 hours')::text PLACING '7' FROM 15)::uuid";
    let insert = format!(
        "INSERT INTO agentpool.tasks (id, session_id, agent, prompt, created_at)
         VALUES ({old}, '{session}', 'a', 'patient', now() - interval '60 days')"
    );
    queue.sql.batch_execute(&insert).await.unwrap();
    assert!(queue.store.make_partitions().await.unwrap() > 5);
    let task = node.take_one().await;
    assert_eq!(node.say(task.lease, 0, &["at last"]).await, AppendOutcome::Done);
    assert_eq!(queue.store.make_partitions().await.unwrap(), 0);
}
