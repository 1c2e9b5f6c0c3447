//! What an agent says can break no row.

use super::{running, stream};
use crate::support::queue::{Queue, agent};
use agentpool::dispatch::task_source::{
    AppendOutcome, EventBatch, LoggedEvent, PermissionAsk, Standing, TaskSource, TurnBegin, TurnResult,
};
use agentpool::domain::agent::BackendKind;
use agentpool::domain::change::{ChangeOperation, DIFF_BYTES_MAX, FileChange};
use agentpool::domain::permission::{Access, PermissionDecision, PermissionKind, PermissionRequest};
use agentpool::domain::text::clean_bytes;
use agentpool::domain::turn::{PlanEntry, ToolCall, ToolDiff, ToolStatus, TurnEvent};
use agentpool::domain::usage::Usage;
use serde_json::json;
use std::time::Duration;

const BAD: &str = "a\0b";
const CLEAN: &str = "a\u{FFFD}b";

fn dirty_events() -> Vec<LoggedEvent> {
    let call = ToolCall {
        call_id: BAD.into(),
        tool: BAD.into(),
        status: ToolStatus::Completed,
        title: Some(BAD.into()),
        input: Some(json!({BAD: [BAD, {"k": BAD}]})),
        output: Some(clean_bytes(b"\xff\0\xed\xa0\x80")),
        locations: vec![BAD.into()],
        diffs: vec![ToolDiff { path: BAD.into(), old: Some(BAD.into()), new: BAD.into() }],
    };
    let request = PermissionRequest {
        agent_request_id: BAD.into(),
        kind: PermissionKind::Tool,
        access: Access::Unknown,
        title: BAD.into(),
        payload: json!({BAD: BAD}),
    };
    [
        TurnEvent::Text(BAD.into()),
        TurnEvent::Reasoning(BAD.into()),
        TurnEvent::ToolCall(call.clone()),
        TurnEvent::ToolUpdate(call),
        TurnEvent::Plan(vec![PlanEntry { content: BAD.into(), status: BAD.into() }]),
        TurnEvent::Commands(vec![BAD.into()]),
        TurnEvent::ModeChanged(BAD.into()),
        TurnEvent::Usage(Usage { cost_usd: f64::NAN, ..Usage::default() }),
        TurnEvent::Permission(request),
        TurnEvent::Retry { attempt: 1, message: BAD.into() },
        TurnEvent::Notice(BAD.into()),
    ]
    .map(LoggedEvent::Agent)
    .into()
}

#[tokio::test]
async fn no_text_of_an_agent_can_break_a_row() {
    let queue = Queue::new().await;
    let node = queue.node().await;
    let task = running(&queue, &node).await;
    let events = dirty_events();
    let kinds = events.len();
    let outcomes =
        node.source.append(&[EventBatch { lease: task.lease, first_seq: 1, events }]).await.unwrap();
    assert_eq!(outcomes, [AppendOutcome::Done]);
    let rows = stream(&queue, task.lease.session.0).await;
    assert_eq!(rows.len(), kinds);
    assert_eq!(rows[0].content.as_deref(), Some(CLEAN));
    let call = &rows[2];
    assert_eq!((call.tool.as_deref(), call.content.as_deref()), (Some(CLEAN), Some(CLEAN)));
    assert_eq!(call.input.as_ref().unwrap()["input"], json!({CLEAN: [CLEAN, {"k": CLEAN}]}));
    assert!(call.output.as_ref().unwrap().chars().all(|letter| letter == '\u{FFFD}'));
}

#[tokio::test]
async fn no_report_of_a_turn_can_be_refused_for_its_letters() {
    let queue = Queue::new().await;
    let node = queue.node().await;
    let task = running(&queue, &node).await;
    let begin = TurnBegin {
        lease: task.lease,
        checkpoint: "c0de".into(),
        found: agentpool::dispatch::task_source::FoundChanges::default(),
        agent: task.agent.clone(),
        backend: BackendKind::Scripted,
        agent_session_id: BAD.into(),
        server_port: Some(65_535),
        config_hash: "h".into(),
    };
    node.source.begin_turn(&begin).await.unwrap();
    let request = PermissionRequest {
        agent_request_id: BAD.into(),
        kind: PermissionKind::Question,
        access: Access::Unknown,
        title: BAD.into(),
        payload: json!({BAD: BAD}),
    };
    let ask = PermissionAsk { request, answered: None, rule: None, deadline: Some(Duration::from_secs(1)) };
    node.source.ask_permission(&task.lease, &agent("a"), &ask).await.unwrap();
    let no = PermissionDecision::Deny { message: Some(BAD.into()) };
    let standing = node.source.expire_permission(&task.lease, BAD, &no).await.unwrap();
    assert_eq!(standing, Standing::Expired);
    let expired = "SELECT count(*) = 1 FROM agentpool.permission_requests WHERE status = 'expired'";
    assert!(queue.one::<bool>(expired).await, "the id finds its question");
    // Cleaning makes this diff too large for its column; a change without its diff is better than no result.
    let change = FileChange {
        path: BAD.into(),
        path_raw: Some(b"a\xff".to_vec()),
        old_path: Some(BAD.into()),
        old_path_raw: None,
        operation: ChangeOperation::Rename,
        old_mode: Some("100644".into()),
        new_mode: Some("100644".into()),
        binary: false,
        old_blob: None,
        new_blob: None,
        diff: Some("\0".repeat(DIFF_BYTES_MAX)),
        additions: 1,
        deletions: 1,
    };
    let result = TurnResult {
        lease: task.lease,
        agent: task.agent.clone(),
        output: Some(BAD.into()),
        checkpoint: Some("c0de".into()),
        changes: vec![change],
        usage: Some((BAD.into(), Usage { input_tokens: 1, ..Usage::default() })),
    };
    node.source.store_result(&result).await.unwrap();
    let row = queue.store.task(task.lease.task.0).await.unwrap().unwrap();
    assert_eq!((row.status.as_str(), row.output.as_deref()), ("running", Some(CLEAN)));
    let (path, diff): (String, bool) = (
        queue.one("SELECT file_path FROM agentpool.pending_changes").await,
        queue.one("SELECT diff IS NULL FROM agentpool.pending_changes").await,
    );
    assert_eq!((path.as_str(), diff), (CLEAN, true));
}
