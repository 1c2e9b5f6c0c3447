//! Secrets that an agent says reach no row and no reader, wherever its words are cut; all else arrives as it was said, at once.

use super::{running, stream};
use crate::secrets::dump;
use crate::support::node::{PATIENCE, TestNode, scripted_agent, scripted_config};
use crate::support::queue::{DEADLINE, Queue, text};
use agentpool::dispatch::event_writer::EventWriter;
use agentpool::dispatch::task_source::LoggedEvent;
use agentpool::domain::agent::AgentName;
use agentpool::domain::permission::{Access, PermissionKind, PermissionRequest};
use agentpool::domain::redaction::Redactor;
use agentpool::domain::turn::{PlanEntry, ToolCall, ToolDiff, ToolStatus, TurnEvent};
use reqwest::Method;
use serde_json::json;
use std::fs;

/// A word that is in every secret here and nowhere else: what is left of one is seen.
const MARK: &str = "C4n4ryQ7wErT9yU2iOp4As";

/// Of every shape, and the values of an agent's own. Put together here, so that no scanner takes them for real ones.
fn canaries() -> Vec<String> {
    let begins = [
        "sk-",
        "sk-ant-api03-",
        "sk-or-v1-",
        "ghp_",
        "gho_",
        "ghu_",
        "ghs_",
        "ghr_",
        "github_pat_",
        "glpat-",
        "xoxb-",
        "npm_",
        "xoxp-",
        "pypi-",
        "sk_live_",
        "rk_live_",
        "hf_",
        "agp_",
        "AIzaDfG6hJkL8zXc",
    ];
    let mut all: Vec<String> = begins.iter().map(|begin| format!("{begin}{MARK}aB12")).collect();
    all.push(format!("AKIA{}", "C4N4RYQ7WERT9YU2"));
    all.push(format!("eyJhbGciOiJ{MARK}.eyJzdWIiOi{MARK}.{MARK}"));
    all.push(format!(
        "-----BEGIN RSA PRIVATE KEY-----\n{MARK}{MARK}{MARK}\nMII{MARK}\n-----END RSA PRIVATE KEY-----"
    ));
    all.push(format!("Authorization: Bearer {MARK}"));
    all.push(format!("postgres://ann:{MARK}@db/x"));
    all.extend(values());
    all
}

fn values() -> [String; 2] {
    [format!("value-{MARK}"), format!("{MARK}/ünd \"more\"")]
}

fn nothing_is_left(of: &str) {
    let caseless = of.to_ascii_lowercase();
    let at = caseless.find("c4n4ry").map(|at| {
        let (from, to) = (of.floor_char_boundary(at.saturating_sub(200)), of.floor_char_boundary(at + 100));
        &of[from..to]
    });
    assert_eq!(at, None);
}

fn call(status: ToolStatus, secret: &str) -> ToolCall {
    ToolCall {
        call_id: "c".into(),
        tool: "bash".into(),
        status,
        title: Some(format!("echo {secret}")),
        input: Some(json!({"command": ["echo", secret], secret: 1})),
        output: Some(format!("it says {secret}")),
        locations: vec![format!("/x/{secret}:3")],
        diffs: vec![ToolDiff { path: secret.into(), old: Some(secret.into()), new: secret.into() }],
    }
}

#[tokio::test]
async fn no_secret_reaches_a_row_wherever_it_is_cut_and_whatever_it_is_said_in() {
    let queue = Queue::new().await;
    let node = queue.node().await;
    let task = running(&queue, &node).await;
    let (writer, run) = EventWriter::new(node.source.clone());
    let run = tokio::spawn(run);
    let mut log = writer.open(task.lease, 0, &Redactor::new(values())).await;
    let mut wanted = String::new();
    for secret in canaries() {
        let kept = Redactor::new(values()).redact(secret.clone());
        assert!(kept.contains("[redacted]"));
        for (at, _) in secret.char_indices() {
            for piece in [" ", &secret[..at], &secret[at..], " \n"] {
                log.write(text(piece)).await;
            }
            wanted += &format!(" {kept} \n");
        }
    }
    assert_eq!(log.answer(), wanted, "the task's output is what the rows tell");
    for secret in canaries() {
        for (at, _) in secret.char_indices() {
            for piece in [&secret[..at], &secret[at..], " "] {
                log.write(LoggedEvent::Agent(TurnEvent::Reasoning(piece.to_owned()))).await;
            }
        }
        let request = PermissionRequest {
            agent_request_id: "r".into(),
            kind: PermissionKind::Tool,
            access: Access::Unknown,
            title: format!("run {secret}?"),
            payload: json!({"patterns": [secret]}),
        };
        for event in [
            TurnEvent::Notice(format!("notice {secret}")),
            TurnEvent::ToolCall(call(ToolStatus::Running, &secret)),
            TurnEvent::ToolUpdate(call(ToolStatus::Completed, &secret)),
            TurnEvent::Plan(vec![PlanEntry { content: secret.clone(), status: "pending".into() }]),
            TurnEvent::Commands(vec![secret.clone()]),
            TurnEvent::ModeChanged(secret.clone()),
            TurnEvent::Permission(request),
            TurnEvent::Retry { attempt: 1, message: secret.clone() },
        ] {
            log.write(LoggedEvent::Agent(event)).await;
        }
        // A tool's output that grows is told whole each time, and may end within a secret.
        for (at, _) in secret.char_indices() {
            let output = Some(format!("so far {}", &secret[..at]));
            let call = ToolCall { output, ..call(ToolStatus::Running, "nothing") };
            log.write(LoggedEvent::Agent(TurnEvent::ToolUpdate(call))).await;
        }
    }
    log.flush().await.unwrap();
    let rows = stream(&queue, task.lease.session.0).await;
    let texts = rows.iter().filter(|row| row.kind == "text").filter_map(|row| row.content.as_deref());
    assert_eq!(texts.collect::<String>(), wanted);
    nothing_is_left(&format!("{rows:?}"));
    nothing_is_left(&dump(&queue.sql).await);
    log.close().await.unwrap();
    drop(writer);
    run.await.unwrap();
}

#[tokio::test]
async fn a_secret_within_which_something_else_is_told_is_in_no_row_whole_and_not_in_the_answer() {
    let queue = Queue::new().await;
    let node = queue.node().await;
    let task = running(&queue, &node).await;
    let (writer, run) = EventWriter::new(node.source.clone());
    let run = tokio::spawn(run);
    let mut log = writer.open(task.lease, 0, &Redactor::new(values())).await;
    for secret in canaries() {
        for (at, _) in secret.char_indices() {
            log.write(text(&format!("\n{}", &secret[..at]))).await;
            log.write(LoggedEvent::Agent(TurnEvent::Notice("between".into()))).await;
            log.write(text(&format!("{}\n", &secret[at..]))).await;
        }
    }
    for secret in canaries() {
        assert!(!log.answer().contains(&secret), "{secret}");
    }
    log.flush().await.unwrap();
    let rows = stream(&queue, task.lease.session.0).await;
    let texts = rows.iter().filter(|row| row.kind == "text").filter_map(|row| row.content.as_deref());
    assert!(texts.collect::<String>() == log.answer());
    log.close().await.unwrap();
    drop(writer);
    run.await.unwrap();
}

#[tokio::test]
async fn ordinary_text_waits_for_nothing_and_half_a_secret_for_its_other_half_in_another_row() {
    let queue = Queue::new().await;
    let node = queue.node().await;
    let task = running(&queue, &node).await;
    let mut appended = node.store.appended();
    let (writer, run) = EventWriter::new(node.source.clone());
    let run = tokio::spawn(run);
    let mut log = writer.open(task.lease, 0, &Redactor::new(values())).await;
    let mut next = async || {
        let rows = tokio::time::timeout(DEADLINE, appended.recv()).await.unwrap().unwrap();
        rows.iter().filter_map(|row| row.content.clone()).collect::<Vec<_>>()
    };
    let secret = &canaries()[0];
    for (said, wanted) in [
        ("ordinary words, näturally", "ordinary words, näturally"),
        (&format!(" and {}", &secret[..9])[..], " and "),
        (&secret[9..], "[redacted]"),
        (" is out. s", " is out. "),
        // Nothing to tell yet.
        ("k-attering", ""),
    ] {
        log.write(text(said)).await;
        if !wanted.is_empty() {
            assert_eq!(next().await, [wanted]);
        }
    }
    log.write(LoggedEvent::Agent(TurnEvent::Notice("between".into()))).await;
    assert_eq!(next().await, ["sk-attering", "between"], "another event tells what waited, before it");
    log.close().await.unwrap();
    drop(writer);
    run.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_of_a_whole_turn_reaches_a_row_or_a_stream() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = scripted_config(&folder).await;
    let scenarios = folder.path().join("scenarios");
    fs::create_dir(&scenarios).unwrap();
    let said: Vec<_> = canaries()
        .into_iter()
        .flat_map(|secret| {
            let step = |kind: &str| json!({ kind: format!("see {secret} there") });
            ["say", "think", "ask", "question", "notice", "retry"].map(step)
        })
        .collect();
    let write = json!({"tool_write": {"path": "keys.txt", "content": canaries().join("\n")}});
    let steps = json!([said, vec![write, json!({"say": "done"})]].concat());
    fs::write(scenarios.join("leaks.json"), steps.to_string()).unwrap();
    let mut agent = scripted_agent("scripted");
    agent.scenarios = Some(scenarios);
    agent.env = values().into_iter().enumerate().map(|(n, value)| (format!("SECRET_{n}"), value)).collect();
    config.agents.insert(AgentName::new("scripted").unwrap(), agent);
    let node = TestNode::start(config, vec![folder]).await;

    let session = node.session().await.id;
    let task = node.submit(session, "scripted", "SCENARIO:leaks").await;
    let (task, events) = node.finish(task.id).await;
    assert_eq!(task.status, "completed", "{task:?}");
    let texts =
        events.iter().filter(|event| event.kind == "text").filter_map(|event| event.content.as_deref());
    assert_eq!(task.output.as_deref(), Some(&texts.collect::<String>()[..]));
    nothing_is_left(&format!("{task:?} {events:?}"));
    let path = format!("/api/sessions/{session}/messages?limit=500");
    let page = node.request(Method::GET, &path).send().await.unwrap().text().await.unwrap();
    assert!(page.contains("[redacted]"));
    nothing_is_left(&page);
    let sql = node.sql().await;
    // What the agent wrote is the user's own code, and stays as it is.
    let changes: i64 = sql
        .query_one("SELECT count(*) FROM agentpool.pending_changes WHERE diff LIKE '%C4n4ry%'", &[])
        .await
        .unwrap()
        .get(0);
    assert_eq!(changes, 1);
    sql.batch_execute("DELETE FROM agentpool.pending_changes").await.unwrap();
    let rows = tokio::time::timeout(PATIENCE, dump(&sql)).await.unwrap();
    assert!(rows.contains("see [redacted] there"));
    nothing_is_left(&rows);

    // Last, since the prompt holds it: what a person asks is stored as it was asked.
    let failed = node.submit_with(session, "scripted", &format!("FAIL:{}", values()[0]), 1).await;
    let (failed, events) = node.finish(failed.id).await;
    assert!(failed.error.as_deref().is_some_and(|error| error.contains("[redacted]")), "{failed:?}");
    nothing_is_left(&format!("{:?} {events:?}", failed.error));
    node.stop().await;
}
