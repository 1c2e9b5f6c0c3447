//! The whole product with the real opencode and a scripted model: real Postgres, real git, real server, no network and no key.

use crate::support::node::{PATIENCE, TestNode, opencode_config, shared_opencode};
use agentpool::scripted_model::ScriptedModel;
use agentpool::wire::api::{ChangeView, PermissionView, SessionView, TaskView};
use agentpool::wire::permission::AnswerBody;
use agentpool::wire::pool::PoolView;
use reqwest::StatusCode;
use serde_json::{Value, json};
use std::path::PathBuf;

#[tokio::test(flavor = "multi_thread")]
async fn a_warm_second_turn_keeps_the_conversation_and_the_model_sees_the_first() {
    let (node, model) = shared_opencode().await;
    let session = node.session().await;
    let first = node.turn(session.id, "opencode", "SAY: one, marker-7f3a").await;
    assert_eq!(first.output.as_deref(), Some("one, marker-7f3a"), "{first:?}");
    let before: SessionView = node.get(&format!("/api/sessions/{}", session.id)).await;
    let second = node.turn(session.id, "opencode", "RECALL two-7f3a").await;
    assert!(second.output.as_deref().unwrap().contains("marker-7f3a"), "{second:?}");
    let after: SessionView = node.get(&format!("/api/sessions/{}", session.id)).await;
    assert_eq!(before.conversations[0].agent_session_id, after.conversations[0].agent_session_id);
    assert_eq!(after.conversations[0].status, "idle");
    // What the agent says it remembers could be made up; what the model was sent cannot.
    let seen = model
        .requests()
        .into_iter()
        .rev()
        .find(|request| !request.side && request.text().contains("two-7f3a"));
    let turns = seen.expect("the model was asked").user_turns;
    assert!(turns.iter().any(|turn| turn.contains("marker-7f3a")), "{turns:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_insert_starts_a_turn_by_notify_alone() {
    let (node, _) = shared_opencode().await;
    let session = node.session().await;
    let insert = "INSERT INTO agentpool.tasks (session_id, agent, prompt) VALUES ($1, 'opencode', 'SAY: by hand') RETURNING id";
    let row = node.sql().await.query_one(insert, &[&session.id]).await.unwrap();
    // The poll is a minute, and so is the patience of `finish`.
    let (task, _) = node.finish(row.get(0)).await;
    assert_eq!(task.output.as_deref(), Some("by hand"), "{task:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_run_in_parallel_and_tasks_of_one_session_in_order() {
    let (node, _) = shared_opencode().await;
    let (one, two) = (node.session().await, node.session().await);
    let slow = node.submit(one.id, "opencode", "SLOW:600").await;
    let behind = node.submit(one.id, "opencode", "SAY: behind").await;
    node.follow(slow.id, |event| event.kind == "text").await;
    let beside = node.turn(two.id, "opencode", "SAY: beside").await;
    assert_eq!(beside.output.as_deref(), Some("beside"));
    let slow_now: TaskView = node.get(&format!("/api/tasks/{}", slow.id)).await;
    let behind_now: TaskView = node.get(&format!("/api/tasks/{}", behind.id)).await;
    assert_eq!((slow_now.status.as_str(), behind_now.status.as_str()), ("running", "queued"));
    let _: TaskView = node.post(&format!("/api/tasks/{}/cancel", slow.id), &(), StatusCode::ACCEPTED).await;
    assert_eq!(node.finish(slow.id).await.0.status, "cancelled");
    assert_eq!(node.finish(behind.id).await.0.output.as_deref(), Some("behind"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_in_mid_stream_does_not_end_the_prompt_that_follows_at_once() {
    let (node, _) = shared_opencode().await;
    let session = node.session().await;
    for round in 0..3 {
        let slow = node.submit(session.id, "opencode", "SLOW:600").await;
        let next = node.submit(session.id, "opencode", &format!("SAY: whole answer {round}")).await;
        node.follow(slow.id, |event| event.kind == "text").await;
        let _: TaskView =
            node.post(&format!("/api/tasks/{}/cancel", slow.id), &(), StatusCode::ACCEPTED).await;
        assert_eq!(node.finish(slow.id).await.0.status, "cancelled");
        let (next, _) = node.finish(next.id).await;
        assert_eq!(next.output, Some(format!("whole answer {round}")), "{next:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_permission_is_asked_and_answered_and_a_policy_answers_by_itself() {
    let (node, _) = shared_opencode().await;
    let session = node.session().await;
    let task = node.submit(session.id, "asking", "TOOL:write asked.txt yes").await;
    let request = node.one_pending_permission().await;
    assert_eq!((request.task_id, request.kind.as_str()), (task.id, "tool"));
    let path = format!("/api/permissions/{}/answer", request.id);
    let _: PermissionView = node.post(&path, &AnswerBody::AllowOnce, StatusCode::OK).await;
    let (task, events) = node.finish(task.id).await;
    assert_eq!(task.status, "completed", "{task:?}");
    assert!(events.iter().any(|event| event.kind == "permission"));
    let refused = node.turn(session.id, "timid", "TOOL:write refused.txt no").await;
    let tree = worktree(&node.get(&format!("/api/sessions/{}", session.id)).await);
    assert!(tree.join("asked.txt").exists() && !tree.join("refused.txt").exists(), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn standing_rules_answer_opencodes_own_requests() {
    let (node, _) = shared_opencode().await;
    let session = node.session().await;
    for (tool, pattern, decision) in
        [("edit", "ruled/**", "allow"), ("bash", "echo", "allow"), ("bash", "echo no", "deny")]
    {
        let rule = json!({"session_id": session.id, "tool": tool, "pattern": pattern, "decision": decision});
        node.post::<Value>("/api/permission-rules", &rule, StatusCode::CREATED).await;
    }
    let wrote = node.turn(session.id, "asking", "TOOL:write ruled/a.txt yes").await;
    let said = node.turn(session.id, "asking", "TOOL:bash echo yes").await;
    let refused = node.turn(session.id, "asking", "TOOL:bash echo no").await;
    // Whoever is allowed everything is refused what a rule forbids.
    let also = node.turn(session.id, "opencode", "TOOL:bash echo no; true").await;
    let tree = worktree(&node.get(&format!("/api/sessions/{}", session.id)).await);
    assert!(tree.join("ruled/a.txt").exists(), "{wrote:?} {said:?} {refused:?}");
    let rows: Vec<PermissionView> =
        node.get(&format!("/api/permissions?all=true&session={}", session.id)).await;
    let by_rule = |task: &TaskView| {
        let row =
            rows.iter().find(|row| row.task_id == task.id).unwrap_or_else(|| panic!("{task:?}: {rows:?}"));
        assert!(row.answered_by.as_deref().is_some_and(|by| by.starts_with("rule ")), "{row:?}");
        row.answer.as_ref().unwrap()["decision"].as_str().unwrap().to_owned()
    };
    let all = [&wrote, &said, &refused, &also].map(by_rule);
    assert_eq!(all, ["allow_once", "allow_once", "deny", "deny"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_by_the_agent_becomes_a_change_with_its_name_on_it() {
    let (node, _) = shared_opencode().await;
    let session = node.session().await;
    let task = node.turn(session.id, "opencode", "TOOL:write src/new.txt made by an agent").await;
    assert_eq!(task.status, "completed", "{task:?}");
    // A second agent in the session finds the file: they share the worktree.
    let other = node.turn(session.id, "timid", "TOOL:read src/new.txt").await;
    assert!(other.output.as_deref().unwrap().contains("made by an agent"), "{other:?}");
    let changes: Vec<ChangeView> = node.get(&format!("/api/sessions/{}/changes", session.id)).await;
    let who: Vec<_> =
        changes.iter().map(|change| (change.path.as_str(), change.agent.as_str(), change.task_id)).collect();
    assert_eq!(who, [("src/new.txt", "opencode", Some(task.id))]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_was_evicted_is_resumed_with_its_memory() {
    let model = ScriptedModel::start(0).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut config = opencode_config(&folder, &model.base_url()).await;
    config.pool.live_max = 1;
    let node = TestNode::start(config, vec![folder]).await;
    let (one, two) = (node.session().await, node.session().await);
    node.turn(one.id, "opencode", "SAY: remember-the-first").await;
    node.turn(two.id, "opencode", "SAY: second").await;
    let evicted = async {
        while node.get::<PoolView>("/api/pool").await.evictions == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, evicted).await.expect("the least recently used slot goes");
    let (recalled, events) = {
        let task = node.submit(one.id, "opencode", "RECALL").await;
        node.finish(task.id).await
    };
    assert!(recalled.output.as_deref().unwrap().contains("remember-the-first"), "{recalled:?}");
    assert_eq!(events[0].input.as_ref().unwrap()["conversation"], "resumed");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_stops_a_long_turn_gives_it_back_and_a_next_start_ends_everything_once() {
    let model = ScriptedModel::start(0).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut config = opencode_config(&folder, &model.base_url()).await;
    config.drain_timeout_secs = 0;
    let node = TestNode::start(config, vec![folder]).await;
    let session = node.session().await;
    let running = node.submit(session.id, "opencode", "TOOL:write half.txt first try\nSLOW:30").await;
    node.follow(running.id, |event| event.kind == "tool_update").await;
    let queued = node.submit(session.id, "opencode", "SAY: after the restart").await;
    let (config, project, folders) = node.stop().await;
    let node = TestNode::start_on(config, project, folders).await;
    let (running, _) = node.finish(running.id).await;
    let (queued, _) = node.finish(queued.id).await;
    assert_eq!((running.status.as_str(), running.failures), ("completed", 0), "{running:?}");
    assert_eq!(queued.output.as_deref(), Some("after the restart"));
    let changes: Vec<ChangeView> = node.get(&format!("/api/sessions/{}/changes", session.id)).await;
    let pending: Vec<_> =
        changes.iter().filter(|change| change.status == "pending").map(|change| &change.path).collect();
    assert_eq!(pending, ["half.txt"], "once, although the turn ran twice");
    node.stop().await;
}

fn worktree(session: &SessionView) -> PathBuf {
    PathBuf::from(session.worktree.as_deref().expect("a worktree"))
}
