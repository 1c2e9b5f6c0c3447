//! The traps of a queue on Postgres, each one tried and seen to fail without the mechanism that its test names.

mod after_commit;
mod fences;
mod forgotten;
mod limits;
mod locks;

use crate::support::queue::Queue;
use agentpool::dispatch::task_source::{InterruptedTree, PermissionAsk, TurnBegin, TurnResult};
use agentpool::domain::agent::BackendKind;
use agentpool::domain::change::{ChangeOperation, FileChange};
use agentpool::domain::permission::{Access, PermissionKind, PermissionRequest};
use agentpool::domain::task::ClaimedTask;
use agentpool::domain::usage::Usage;
use uuid::Uuid;

fn begin(task: &ClaimedTask) -> TurnBegin {
    TurnBegin {
        lease: task.lease,
        checkpoint: "c0ffee".into(),
        found: agentpool::dispatch::task_source::FoundChanges::default(),
        agent: task.agent.clone(),
        backend: BackendKind::Scripted,
        agent_session_id: "conversation".into(),
        server_port: None,
        config_hash: "h".into(),
    }
}

fn interrupted(task: &ClaimedTask, commit: &str) -> InterruptedTree {
    InterruptedTree { commit: commit.into(), agent: task.agent.clone(), changes: vec![change()] }
}

fn change() -> FileChange {
    FileChange {
        path: "a.txt".into(),
        path_raw: None,
        old_path: None,
        old_path_raw: None,
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
        access: Access::Unknown,
        title: "bash".into(),
        payload: serde_json::json!({}),
    };
    PermissionAsk { request, answered: None, rule: None, deadline: None }
}

/// An open transaction of a client with psql that asks to cancel these tasks and never commits.
async fn open_cancel(queue: &Queue, tasks: &[Uuid]) -> tokio_postgres::Client {
    let psql = queue.psql().await;
    psql.batch_execute("SET ROLE agentpool_client; BEGIN").await.unwrap();
    let ask = "UPDATE agentpool.tasks SET cancel_requested_at = now() WHERE id = ANY ($1)";
    assert_eq!(psql.execute(ask, &[&tasks]).await.unwrap() as usize, tasks.len());
    psql
}
