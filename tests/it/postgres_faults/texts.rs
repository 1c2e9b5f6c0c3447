//! Texts that are too long, too many, or none that Postgres can hold; and what is told of them.

use crate::support::node::TestNode;
use crate::support::queue::{DEADLINE, Queue, batch, plain, text};
use agentpool::dispatch::event_writer::EventWriter;
use agentpool::dispatch::task_source::{AppendOutcome, EventBatch, LoggedEvent, TaskSource};
use agentpool::domain::redaction::Redactor;
use agentpool::domain::text::EVENT_BYTES_MAX;
use agentpool::domain::turn::{ToolCall, ToolStatus, TurnEvent};
use futures::{FutureExt, StreamExt};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use tokio_postgres::{AsyncMessage, NoTls};
use uuid::Uuid;

#[tokio::test(flavor = "multi_thread")]
async fn f32_a_prompt_of_a_mebibyte_by_plain_sql_is_run_and_a_larger_one_is_refused_by_name() {
    let node = TestNode::scripted().await;
    let (session, sql) = (node.session().await.id, node.sql().await);
    let put = "INSERT INTO agentpool.tasks (session_id, agent, prompt)
               VALUES ($1, 'scripted', rpad('SAY: hi ', $2, 'x')) RETURNING id";
    let id: Uuid = sql.query_one(put, &[&session, &(1_i32 << 20)]).await.unwrap().get(0);
    assert_eq!(node.finish(id).await.0.status, "completed");
    let refused = sql.query_one(put, &[&session, &((1_i32 << 20) + 1)]).await.unwrap_err();
    assert_eq!(refused.as_db_error().unwrap().constraint(), Some("tasks_prompt_max_1_mib"));
    node.stop().await;
}

#[tokio::test]
async fn f33_two_thousand_events_are_told_once_a_commit_and_never_once_a_row() {
    let queue = Queue::new().await;
    let node = queue.node().await;
    let (client, mut connection) = queue.db.config.connect(NoTls).await.unwrap();
    let (hear, mut heard) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut messages = futures::stream::poll_fn(|cx| connection.poll_message(cx));
        while let Some(Ok(AsyncMessage::Notification(note))) = messages.next().await {
            let _ = hear.send(note.channel().to_owned());
        }
    });
    for _ in 0..4 {
        queue.put(&plain(queue.session().await, "x")).await;
    }
    let tasks = node.take(4).await;
    client.batch_execute("LISTEN session_events; LISTEN done").await.unwrap();
    let (writer, run) = EventWriter::new(node.source.clone());
    let run = tokio::spawn(run);
    let mut logs = Vec::new();
    for task in &tasks {
        logs.push(writer.open(task.lease, 0, &Redactor::default()).await);
    }
    for number in 0..500 {
        for log in &mut logs {
            // Never joined with its neighbours: a row each.
            log.write(LoggedEvent::Agent(TurnEvent::Notice(number.to_string()))).await;
        }
    }
    for log in logs {
        log.close().await.unwrap();
    }
    queue.sql.batch_execute("NOTIFY done").await.unwrap();
    let mut notified = 0;
    while tokio::time::timeout(DEADLINE, heard.recv()).await.unwrap().unwrap() == "session_events" {
        notified += 1;
    }
    let rows: i64 = queue.one("SELECT count(*) FROM agentpool.task_messages").await;
    let commits: i64 = queue.one("SELECT count(DISTINCT xmin::text) FROM agentpool.task_messages").await;
    assert_eq!(rows, 2000);
    assert_eq!(notified, commits, "one a commit");
    assert!(commits * 10 < rows, "{commits} commits for {rows} rows");
    drop(writer);
    run.await.unwrap();
}

#[tokio::test]
async fn f42_a_tool_that_says_a_hundred_megabytes_leaves_a_row_of_four_that_says_how_much_is_missing() {
    let queue = Queue::new().await;
    let node = queue.node().await;
    queue.put(&plain(queue.session().await, "x")).await;
    let task = node.take_one().await;
    let call = ToolCall {
        call_id: "c".into(),
        tool: "bash".into(),
        status: ToolStatus::Completed,
        title: None,
        input: None,
        output: Some("x".repeat(100 << 20)),
        locations: Vec::new(),
        diffs: Vec::new(),
    };
    let events = vec![LoggedEvent::Agent(TurnEvent::ToolUpdate(call)), text("and goes on")];
    let outcomes =
        node.source.append(&[EventBatch { lease: task.lease, first_seq: 1, events }]).await.unwrap();
    assert_eq!(outcomes, [AppendOutcome::Done]);
    let rows = queue.store.session_events(task.lease.session.0, 0, 9).await.unwrap();
    let output = rows[0].output.as_ref().unwrap();
    let missing = (100 << 20) - EVENT_BYTES_MAX;
    assert!(output.ends_with(&format!("[{missing} bytes cut]")) && output.len() < EVENT_BYTES_MAX + 100);
    assert_eq!(rows[1].content.as_deref(), Some("and goes on"));
}

#[tokio::test]
async fn f42_what_waits_for_the_database_is_bounded_in_bytes_and_then_the_agent_waits() {
    let queue = Queue::new().await;
    let node = queue.node().await;
    queue.put(&plain(queue.session().await, "x")).await;
    let task = node.take_one().await;
    // Nobody writes yet, as in an outage.
    let (writer, run) = EventWriter::new(node.source.clone());
    let mut log = writer.open(task.lease, 0, &Redactor::default()).await;
    let megabyte = || text(&"x".repeat(1 << 20));
    let mut waiting = 0;
    while log.write(megabyte()).now_or_never().is_some() {
        waiting += 1;
        assert!(waiting < 100, "nothing bounds what waits");
    }
    assert!(waiting > 20, "{waiting} MiB are too few for a burst");
    // One that is larger than all the room still gets through, alone.
    let run = tokio::spawn(run);
    log.write(text(&"y".repeat(40 << 20))).await;
    tokio::time::timeout(DEADLINE, log.close()).await.unwrap().unwrap();
    let rows: i64 =
        queue.one("SELECT count(*) FROM agentpool.task_messages WHERE content LIKE 'y%cut]'").await;
    assert_eq!(rows, 1);
    drop(writer);
    run.await.unwrap();
}

#[tokio::test]
async fn f41_an_appended_event_of_any_bytes_is_stored_and_read_back_clean() {
    let queue = Queue::new().await;
    let node = queue.node().await;
    queue.put(&plain(queue.session().await, "x")).await;
    let task = node.take_one().await;
    // Every code point that could be special, and every byte as broken UTF-8 (surrogates are three such bytes).
    let all: String = (0..=0x10_FFFF).step_by(0x101).chain(0..0x300).filter_map(char::from_u32).collect();
    let bytes: Vec<u8> = (0..=255).chain([0xED, 0xA0, 0x80, 0xF4, 0x90, 0x80, 0x80]).collect();
    let broken = agentpool::domain::text::clean_bytes(&bytes);
    assert_eq!(
        node.source.append(&[batch(task.lease, 1, &[&all, &broken])]).await.unwrap(),
        [AppendOutcome::Done]
    );
    let rows = queue.store.session_events(task.lease.session.0, 0, 9).await.unwrap();
    assert_eq!(rows[0].content.as_deref(), Some(all.replace('\0', "\u{FFFD}").as_str()));
    assert_eq!(rows[1].content.as_deref(), Some(broken.as_str()));
}

#[tokio::test(flavor = "multi_thread")]
async fn f41_no_request_with_a_text_that_postgres_cannot_hold_is_our_fault_or_without_words() {
    let node = TestNode::scripted().await;
    let session = node.session().await.id;
    let task = node.turn(session, "scripted", "ASK: may I").await.id;
    let asked = node.get::<Value>("/api/permissions?all=true").await[0]["id"].as_str().unwrap().to_owned();
    let plain = json!({"session_id": session, "agent": "scripted", "prompt": "SAY: hi"});
    let with = |field: &str, value: Value| {
        let mut body = plain.clone();
        body[field] = value;
        body
    };
    let nul = "a\0b";
    let mut requests = vec![
        ("/api/projects".to_owned(), json!({"path": nul})),
        ("/api/projects".to_owned(), json!({"url": format!("https://example.org/{nul}")})),
        ("/api/projects".to_owned(), json!({"url": "https://example.org/x", "name": nul})),
        ("/api/sessions".to_owned(), json!({"path": nul})),
        ("/api/sessions".to_owned(), json!({"path": node.project, "title": nul})),
        (format!("/api/permissions/{asked}/answer"), json!({"decision": "deny", "message": nul})),
        (format!("/api/sessions/{session}/changes/apply"), json!({"branch": nul})),
        (format!("/api/sessions/{session}/changes/apply"), json!({"message": nul})),
    ];
    for field in ["agent", "prompt", "model", "mode_id", "thinking_option_id"] {
        requests.push(("/api/tasks".to_owned(), with(field, json!(nul))));
    }
    requests.push(("/api/tasks".to_owned(), with("feature_values", json!({"k": [nul]}))));
    requests.push(("/api/tasks".to_owned(), with("feature_values", json!({nul: 1}))));
    let mut sent: Vec<(String, Vec<u8>)> = Vec::new();
    for (path, body) in requests {
        let body = body.to_string();
        // The same as a lone surrogate, and as a byte that is no UTF-8.
        sent.push((path.clone(), body.clone().into()));
        sent.push((path.clone(), body.replace("\\u0000", "\\ud800").into()));
        let (before, after) = body.split_once("\\u0000").unwrap();
        sent.push((path, [before.as_bytes(), b"\xff", after.as_bytes()].concat()));
    }
    sent.push((format!("/api/sessions/{session}/close"), b"{\"force\": \"\\ud800\"}".into()));
    for (path, body) in sent {
        let request = node.request(Method::POST, &path).header("content-type", "application/json");
        is_refused_with_words(
            request.body(body.clone()),
            &format!("{path} {}", String::from_utf8_lossy(&body)),
        )
        .await;
    }
    for path in [
        "/api/tasks?status=%00".to_owned(),
        "/api/tasks?session=%00".to_owned(),
        "/api/sessions?status=%ff".to_owned(),
        format!("/api/sessions/{session}/changes?status=%00"),
        "/api/tasks/%00".to_owned(),
    ] {
        is_refused_with_words(node.request(Method::GET, &path), &path).await;
    }
    assert_eq!(node.get::<Value>(&format!("/api/tasks/{task}")).await["status"], "completed");
    node.stop().await;
}

async fn is_refused_with_words(request: reqwest::RequestBuilder, what: &str) {
    let answer = request.send().await.unwrap();
    let (status, kind) = (answer.status(), answer.headers().get("content-type").cloned());
    let said = answer.text().await.unwrap();
    assert!(status.is_client_error() && status != StatusCode::UNAUTHORIZED, "{what}: {status} {said}");
    assert_eq!(kind.unwrap(), "application/problem+json", "{what}: {said}");
    let said: Value = serde_json::from_str(&said).unwrap();
    assert!(!said["detail"].as_str().unwrap().is_empty(), "{what}");
}

#[test]
fn f44_no_statement_of_the_engine_takes_its_time_from_the_begin_of_a_transaction() {
    let sql = Path::new(env!("CARGO_MANIFEST_DIR")).join("sql");
    let mut read = 0;
    for room in fs::read_dir(sql)
        .unwrap()
        .map(|room| room.unwrap().path())
        .filter(|room| !room.ends_with("migrations"))
    {
        for file in fs::read_dir(room).unwrap().map(|file| file.unwrap().path()) {
            let text = fs::read_to_string(&file).unwrap().to_lowercase();
            let code: String = text.lines().filter(|line| !line.trim_start().starts_with("--")).collect();
            for word in ["now()", "current_timestamp", "transaction_timestamp", "localtime", "current_date"] {
                assert!(!code.contains(word), "{file:?} says {word}");
            }
            read += 1;
        }
    }
    assert!(read > 50, "{read} files");
}

#[tokio::test]
async fn f44_a_lease_renewed_late_in_a_long_transaction_lasts_its_whole_time_from_then_on() {
    let queue = Queue::new().await;
    let node = queue.node().await;
    queue.put(&plain(queue.session().await, "x")).await;
    let lease = node.take_one().await.lease;
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/sql/queue/renew.sql");
    let renew = queue.sql.prepare(&fs::read_to_string(file).unwrap()).await.unwrap();
    queue.sql.batch_execute("BEGIN; SELECT pg_sleep(1)").await.unwrap();
    let held = queue.sql.query(&renew, &[&vec![lease.session.0], &vec![lease.fence.0], &15.0]).await.unwrap();
    assert_eq!(held.len(), 1);
    let whole = "SELECT lease_until - now() >= interval '16 seconds' FROM agentpool.lanes";
    assert!(queue.one::<bool>(whole).await, "now() is when the transaction began");
    queue.sql.batch_execute("COMMIT").await.unwrap();
}
