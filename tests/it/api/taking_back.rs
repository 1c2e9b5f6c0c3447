//! Files taken back: never under a turn, to its end whoever hangs up, and only to what the session had.

use super::changes::{changes, node, turn, with_status, worktree};
use crate::support::leaks::until;
use crate::support::node::{PATIENCE, TestNode};
use crate::support::repos::{read, write};
use agentpool::wire::api::{CheckpointView, FileView, Problem, RejectChanges, RejectedView};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use uuid::Uuid;

/// A session with a first turn, and a second one that made many files; the checkpoint after the first.
async fn many_files(node: &TestNode) -> (Uuid, i64) {
    let s = node.session().await.id;
    node.turn(s, "scripted", "TOOL:write other.txt x").await;
    turn(node, s, |tree| (0..3000).for_each(|n| write(tree, &format!("d/f{n}.txt"), &"l\n".repeat(200))))
        .await;
    let all: Vec<CheckpointView> = node.get(&format!("/api/sessions/{s}/checkpoints")).await;
    let first = all.iter().rev().find(|checkpoint| checkpoint.kind == "after").expect("it was saved");
    (s, first.id)
}

/// How many changes of the session stand how, by whom.
async fn standing(node: &TestNode, session: Uuid) -> Vec<(String, String, i64)> {
    let query = "SELECT agent, status, count(*) FROM agentpool.pending_changes WHERE session_id = $1 GROUP BY 1, 2 ORDER BY 1, 2";
    let rows = node.sql().await.query(query, &[&session]).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_not_taken_back_under_a_turn_and_only_to_a_state_of_the_session() {
    let node = node().await;
    let (s, other) = (node.session().await.id, node.session().await.id);
    turn(&node, s, |tree| write(tree, "a.txt", "1\n")).await;
    turn(&node, other, |tree| write(tree, "a.txt", "2\n")).await;
    let mine: Vec<CheckpointView> = node.get(&format!("/api/sessions/{s}/checkpoints")).await;
    let theirs: Vec<CheckpointView> = node.get(&format!("/api/sessions/{other}/checkpoints")).await;
    let restore = |session: Uuid, id: i64| format!("/api/sessions/{session}/checkpoints/{id}/restore");
    node.post::<Problem>(&restore(s, theirs[0].id), &json!({}), StatusCode::NOT_FOUND).await;
    assert_eq!(read(&worktree(&node, s).await, "a.txt").unwrap(), "1\n");

    let running = node.submit(s, "patient", "ASK: wait").await;
    let asked = node.one_pending_permission().await;
    let refused: Problem = node.post(&restore(s, mine[1].id), &json!({}), StatusCode::CONFLICT).await;
    assert!(refused.detail.contains("a turn is at work"), "{refused:?}");
    let reject = format!("/api/sessions/{s}/changes/reject");
    let all = RejectChanges { all: true, ..RejectChanges::default() };
    node.post::<Problem>(&reject, &all, StatusCode::CONFLICT).await;
    let answer = format!("/api/permissions/{}/answer", asked.id);
    node.post::<Value>(&answer, &json!({"decision": "allow_once"}), StatusCode::OK).await;
    node.finish(running.id).await;

    // A task between two tries will go back to its own checkpoint.
    let failing = node.submit_with(s, "scripted", "FAIL:provider_errorx9", 100).await;
    node.until(&format!(
        "SELECT failures > 1 AND status = 'queued' FROM agentpool.tasks WHERE id = '{}'",
        failing.id
    ))
    .await;
    let refused: Problem = node.post(&reject, &all, StatusCode::CONFLICT).await;
    assert!(refused.detail.contains("task") || refused.detail.contains("turn"), "{refused:?}");
    node.cancel(failing.id).await;
    node.finish(failing.id).await;
    node.post::<RejectedView>(&reject, &all, StatusCode::OK).await;
    assert_eq!(read(&worktree(&node, s).await, "a.txt").unwrap(), "one\ntwo\nthree\n");

    node.post::<Value>(&format!("/api/sessions/{s}/close"), &json!({"force": true}), StatusCode::OK).await;
    let refused: Problem = node.post(&restore(s, mine[0].id), &json!({}), StatusCode::CONFLICT).await;
    assert!(refused.detail.contains("closed"), "{refused:?}");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_whose_client_hangs_up_goes_to_its_end_and_a_turn_that_comes_meanwhile_waits() {
    let node = node().await;
    let (s, first) = many_files(&node).await;
    let tree = worktree(&node, s).await;
    let restore = node.request(Method::POST, &format!("/api/sessions/{s}/checkpoints/{first}/restore"));
    let asked = tokio::spawn(restore.json(&json!({})).send());
    until("the first files go", PATIENCE, || !tree.join("d/f100.txt").exists()).await;
    asked.abort();
    // This turn reads what stands before it begins; what it finds is nobody's change.
    let done = node.turn(s, "scripted", "TOOL:write third.txt x").await;
    assert_eq!(done.status, "completed");
    let all: Vec<CheckpointView> = node.get(&format!("/api/sessions/{s}/checkpoints")).await;
    assert_eq!(all.iter().filter(|checkpoint| checkpoint.restores == Some(first)).count(), 1);
    let (patient, scripted) = ("patient".to_owned(), "scripted".to_owned());
    assert_eq!(
        standing(&node, s).await,
        [(patient, "superseded".to_owned(), 3000), (scripted, "pending".to_owned(), 2)]
    );
    assert!(!tree.join("d").exists());
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_interrupted_try_had_done_can_be_gone_back_to_and_is_its_agents() {
    let node = node().await;
    let s = node.session().await.id;
    node.turn(s, "scripted", "TOOL:write other.txt x").await;
    let task = node.submit_with(s, "scripted", "TOOL:write w.txt x\nFAIL:provider_errorx1", 100).await;
    assert_eq!(node.finish(task.id).await.0.status, "completed");
    assert_eq!(with_status(&changes(&node, s).await, "pending"), ["other.txt", "w.txt"]);
    let all: Vec<CheckpointView> = node.get(&format!("/api/sessions/{s}/checkpoints")).await;
    let interrupted = all.iter().find(|checkpoint| checkpoint.kind == "interrupted").expect("it was saved");
    assert!(!interrupted.present, "the task stands on the one before it");
    let restore = format!("/api/sessions/{s}/checkpoints/{}/restore", interrupted.id);
    node.post::<CheckpointView>(&restore, &json!({}), StatusCode::OK).await;
    let files: Vec<FileView> = node.get(&format!("/api/sessions/{s}/files")).await;
    let by: Vec<_> = files.iter().map(|file| (file.path.as_str(), file.by[0].task_ids.clone())).collect();
    assert_eq!(by[1], ("w.txt", vec![task.id]), "{files:?}");
    assert_eq!(with_status(&changes(&node, s).await, "superseded"), ["w.txt"], "the second try's");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_without_a_worktree_has_nothing_to_take_back_and_gets_none_by_it() {
    let node = node().await;
    let s = node.session().await.id;
    let all = RejectChanges { all: true, ..RejectChanges::default() };
    let refused: Problem =
        node.post(&format!("/api/sessions/{s}/changes/reject"), &all, StatusCode::CONFLICT).await;
    assert!(refused.detail.contains("nothing has run"), "{refused:?}");
    let none: Vec<CheckpointView> = node.get(&format!("/api/sessions/{s}/checkpoints")).await;
    assert!(none.is_empty() && !node.config.data_dir.join("worktrees").join(s.to_string()).exists());
    let files: Vec<FileView> = node.get(&format!("/api/sessions/{s}/files")).await;
    assert!(files.is_empty());
    node.stop().await;
}
