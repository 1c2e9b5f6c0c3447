//! The path of one task, from the INSERT to the final row, with the scripted agent: what the engine promises whatever the agent.

use crate::support::node::{TestNode, scripted_agent, scripted_config};
use agentpool::domain::agent::AgentName;
use agentpool::wire::api::{
    AppliedView, ApplyChanges, ChangeView, CloseSession, ClosedView, NewSession, NewTask, Problem,
    SessionView, TaskView,
};
use agentpool::wire::permission::AnswerBody;
use agentpool::wire::pool::PoolView;
use reqwest::{Method, StatusCode};
use uuid::Uuid;

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_insert_is_picked_up_by_notify_alone_and_answered() {
    let node = TestNode::scripted().await;
    let session = node.session().await;
    let sql = node.sql().await;
    let row = sql
        .query_one(
            "INSERT INTO agentpool.tasks (session_id, agent, prompt) VALUES ($1, 'scripted', 'SAY: hello') RETURNING id",
            &[&session.id],
        )
        .await
        .unwrap();
    let (task, events) = node.finish(row.get(0)).await;
    assert_eq!((task.status.as_str(), task.output.as_deref()), ("completed", Some("hello")), "{task:?}");
    let kinds: Vec<&str> = events.iter().map(|event| event.kind.as_str()).collect();
    assert_eq!((kinds.first(), kinds.last()), (Some(&"turn_started"), Some(&"turn_ended")), "{kinds:?}");
    let positions: Vec<i64> = events.iter().map(|event| event.pos).collect();
    assert!(positions.windows(2).all(|pair| pair[1] == pair[0] + 1), "{positions:?}");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_turn_recalls_the_first_in_the_same_conversation() {
    let node = TestNode::scripted().await;
    let session = node.session().await;
    node.turn(session.id, "scripted", "my name is Ada").await;
    let second = node.turn(session.id, "scripted", "RECALL").await;
    assert!(second.output.as_deref().unwrap().contains("my name is Ada"), "{second:?}");
    let session: SessionView = node.get(&format!("/api/sessions/{}", session.id)).await;
    assert_eq!(session.conversations.len(), 1);
    assert_eq!(session.conversations[0].status, "idle");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_sessions_run_in_parallel_and_two_tasks_of_one_session_do_not() {
    let node = TestNode::scripted().await;
    let (one, two) = (node.session().await, node.session().await);
    let first = node.submit(one.id, "scripted", "HANG").await;
    let behind = node.submit(one.id, "scripted", "SAY: behind").await;
    let beside = node.turn(two.id, "scripted", "SAY: beside").await;
    assert_eq!(beside.status, "completed", "it ended while the other session's turn runs");
    let (first, behind): (TaskView, TaskView) = (
        node.get(&format!("/api/tasks/{}", first.id)).await,
        node.get(&format!("/api/tasks/{}", behind.id)).await,
    );
    assert_eq!((first.status.as_str(), behind.status.as_str()), ("running", "queued"));
    let _: TaskView = node.post(&format!("/api/tasks/{}/cancel", first.id), &(), StatusCode::ACCEPTED).await;
    let (first, _) = node.finish(first.id).await;
    let (behind, _) = node.finish(behind.id).await;
    assert_eq!((first.status.as_str(), behind.status.as_str()), ("cancelled", "completed"));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_becomes_a_change_with_the_agents_name_and_is_applied_as_a_branch() {
    let node = TestNode::scripted().await;
    let session = node.session().await;
    let task = node.turn(session.id, "scripted", "TOOL:write notes.txt remember this").await;
    assert_eq!(task.status, "completed", "{task:?}");
    let changes: Vec<ChangeView> = node.get(&format!("/api/sessions/{}/changes", session.id)).await;
    let change = &changes[..];
    assert_eq!(change.len(), 1, "{changes:?}");
    assert_eq!(
        (change[0].path.as_str(), change[0].agent.as_str(), change[0].operation.as_str(), change[0].task_id),
        ("notes.txt", "scripted", "create", Some(task.id))
    );
    let path = format!("/api/sessions/{}/changes/apply", session.id);
    let body = ApplyChanges { branch: Some("from-agent".into()), message: None, ..ApplyChanges::default() };
    let applied: AppliedView = node.post(&path, &body, StatusCode::OK).await;
    assert_eq!((applied.branch.as_str(), applied.changes), ("from-agent", 1));
    let shown = crate::support::repos::git(&node.project, &["show", "from-agent:notes.txt"]);
    assert_eq!(shown.trim(), "remember this");
    assert!(!node.project.join("notes.txt").exists(), "the user's checkout is not touched");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_person_changed_between_turns_is_a_change_by_user() {
    let node = TestNode::scripted().await;
    let session = node.session().await;
    node.turn(session.id, "scripted", "SAY: hi").await;
    let view: SessionView = node.get(&format!("/api/sessions/{}", session.id)).await;
    std::fs::write(std::path::Path::new(&view.worktree.unwrap()).join("mine.txt"), "by hand\n").unwrap();
    node.turn(session.id, "scripted", "TOOL:write its.txt by agent").await;
    let changes: Vec<ChangeView> = node.get(&format!("/api/sessions/{}/changes", session.id)).await;
    let who: Vec<(&str, &str)> = changes.iter().map(|c| (c.path.as_str(), c.agent.as_str())).collect();
    assert_eq!(who, [("mine.txt", "user"), ("its.txt", "scripted")]);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_becomes_a_row_frees_the_hand_and_is_answered_by_a_person() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = scripted_config(&folder).await;
    config.hands = 1;
    let mut agent = scripted_agent("scripted");
    agent.permission = serde_json::from_str(r#"{"policy": "ask"}"#).unwrap();
    config.agents.insert(AgentName::new("scripted").unwrap(), agent);
    let node = TestNode::start(config, vec![folder]).await;
    let (one, two) = (node.session().await, node.session().await);
    let asking = node.submit(one.id, "scripted", "ASK: may I").await;
    let request = node.one_pending_permission().await;
    assert_eq!((request.task_id, request.agent.as_str()), (asking.id, "scripted"));
    let beside = node.turn(two.id, "scripted", "SAY: beside").await;
    assert_eq!(beside.status, "completed", "the only hand was free");
    let path = format!("/api/permissions/{}/answer", request.id);
    let _: serde_json::Value = node.post(&path, &AnswerBody::AllowOnce, StatusCode::OK).await;
    let (asking, _) = node.finish(asking.id).await;
    assert!(asking.output.as_deref().unwrap_or("").contains("allowed"), "{asking:?}");
    let again = node.request(Method::POST, &path).json(&AnswerBody::AllowOnce).send().await.unwrap();
    assert_eq!(again.status(), StatusCode::CONFLICT, "of two answers one wins");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_answers_at_once_and_the_row_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = scripted_config(&folder).await;
    let mut agent = scripted_agent("scripted");
    agent.permission = serde_json::from_str(r#"{"policy": "deny"}"#).unwrap();
    config.agents.insert(AgentName::new("timid").unwrap(), agent);
    let node = TestNode::start(config, vec![folder]).await;
    let session = node.session().await;
    let task = node.turn(session.id, "timid", "ASK: may I").await;
    assert!(task.output.as_deref().unwrap_or("").contains("denied"), "{task:?}");
    let rows: Vec<agentpool::wire::api::PermissionView> = node.get("/api/permissions?all=true").await;
    assert_eq!((rows[0].status.as_str(), rows[0].answered_by.as_deref()), ("answered", Some("policy")));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_turn_is_tried_again_from_its_checkpoint_and_then_given_up() {
    let node = TestNode::scripted().await;
    let session = node.session().await;
    let sql = node.sql().await;
    let task = NewTask {
        session_id: session.id,
        agent: "scripted".into(),
        prompt: "CRASH".into(),
        max_failures: Some(2),
        ..NewTask::default()
    };
    let task: TaskView = node.post("/api/tasks", &task, StatusCode::CREATED).await;
    node.until("SELECT count(*) = 1 FROM agentpool.lanes WHERE state = 3").await;
    let waiting: TaskView = node.get(&format!("/api/tasks/{}", task.id)).await;
    assert_eq!((waiting.status.as_str(), waiting.failures), ("queued", 1), "{waiting:?}");
    // The back-off is some seconds; the test need not wait for it.
    sql.batch_execute(
        "UPDATE agentpool.lanes SET wake_at = clock_timestamp() WHERE state = 3; NOTIFY tasks_new",
    )
    .await
    .unwrap();
    let (task, _) = node.finish(task.id).await;
    assert_eq!((task.status.as_str(), task.failure_reason.as_deref()), ("failed", Some("agent_crashed")));
    assert_eq!((task.failures, task.attempt), (2, 2));
    let sessions: SessionView = node.get(&format!("/api/sessions/{}", session.id)).await;
    assert_eq!(sessions.conversations[0].status, "crashed");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f09_a_drain_gives_a_running_turn_back_uncharged_and_a_next_start_ends_it_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = scripted_config(&folder).await;
    config.drain_timeout_secs = 0;
    let node = TestNode::start(config, vec![folder]).await;
    let session = node.session().await;
    let running = node.submit(session.id, "scripted", "SLOW:100").await;
    node.follow(running.id, |event| event.kind == "text").await;
    let queued = node.submit(session.id, "scripted", "SAY: after the restart").await;
    let sql = node.sql().await;
    let (config, project, folders) = node.stop().await;
    let row = sql
        .query_one("SELECT status, failures FROM agentpool.tasks WHERE id = $1", &[&running.id])
        .await
        .unwrap();
    assert_eq!((row.get::<_, String>(0).as_str(), row.get::<_, i32>(1)), ("queued", 0));
    let node = TestNode::start_on(config, project, folders).await;
    let (running, _) = node.finish(running.id).await;
    let (queued, _) = node.finish(queued.id).await;
    assert_eq!((running.status.as_str(), running.attempt), ("completed", 2), "{running:?}");
    assert_eq!(queued.output.as_deref(), Some("after the restart"));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_ends_with_the_drain_and_liveness_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let config = scripted_config(&folder).await;
    let node = TestNode::start(config, vec![folder]).await;
    let session = node.session().await;
    let task = node.submit(session.id, "scripted", "SLOW:50").await;
    node.follow(task.id, |event| event.kind == "text").await;
    assert_eq!(reqwest::get(format!("{}/readyz", node.url)).await.unwrap().status(), StatusCode::OK);
    node.shutdown.ask();
    assert_eq!(
        reqwest::get(format!("{}/readyz", node.url)).await.unwrap().status(),
        StatusCode::SERVICE_UNAVAILABLE
    );
    assert_eq!(reqwest::get(format!("{}/livez", node.url)).await.unwrap().status(), StatusCode::OK);
    let sql = node.sql().await;
    node.stop().await;
    let row = sql.query_one("SELECT status FROM agentpool.tasks WHERE id = $1", &[&task.id]).await.unwrap();
    assert_eq!(
        row.get::<_, String>(0),
        "completed",
        "a turn that ends within the drain timeout ends by itself"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_close_is_refused_where_work_would_be_lost_unless_it_is_kept_or_forced() {
    let node = TestNode::scripted().await;
    let session = node.session().await;
    node.turn(session.id, "scripted", "TOOL:write notes.txt precious").await;
    let path = format!("/api/sessions/{}/close", session.id);
    let refused: Problem = node.post(&path, &CloseSession::default(), StatusCode::CONFLICT).await;
    assert_eq!(refused.code, "worktree_at_risk");
    assert!(refused.risk.iter().any(|words| words.contains("notes.txt")), "{refused:?}");
    let view: SessionView = node.get(&format!("/api/sessions/{}", session.id)).await;
    assert_eq!(view.status, "open", "nothing happened");
    let both = CloseSession { force: true, keep: true };
    node.post::<Problem>(&path, &both, StatusCode::UNPROCESSABLE_ENTITY).await;
    let keep = CloseSession { keep: true, ..CloseSession::default() };
    let kept: ClosedView = node.post(&path, &keep, StatusCode::OK).await;
    assert!(!kept.worktree_removed && !kept.kept_because.is_empty(), "{kept:?}");
    let worktree = std::path::PathBuf::from(kept.worktree.unwrap());
    assert!(worktree.join("notes.txt").exists());
    let refused = NewTask {
        session_id: session.id,
        agent: "scripted".into(),
        prompt: "x".into(),
        ..NewTask::default()
    };
    let _: serde_json::Value = node.post("/api/tasks", &refused, StatusCode::CONFLICT).await;
    let gone: ClosedView =
        node.post(&path, &CloseSession { force: true, ..CloseSession::default() }, StatusCode::OK).await;
    assert!(gone.worktree_removed && !worktree.exists());
    let final_checkpoints = "SELECT count(*) = 1 FROM agentpool.checkpoints WHERE kind = 'final'";
    node.until(final_checkpoints).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_agents_in_one_session_share_its_worktree_and_keep_their_own_conversations() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = scripted_config(&folder).await;
    config.agents.insert(AgentName::new("second").unwrap(), scripted_agent("scripted"));
    let node = TestNode::start(config, vec![folder]).await;
    let session = node.session().await;
    node.turn(session.id, "scripted", "TOOL:write a.txt from the first").await;
    node.turn(session.id, "second", "TOOL:write b.txt from the second").await;
    let view: SessionView = node.get(&format!("/api/sessions/{}", session.id)).await;
    let worktree = std::path::PathBuf::from(view.worktree.unwrap());
    assert!(worktree.join("a.txt").exists() && worktree.join("b.txt").exists());
    let agents: Vec<&str> = view.conversations.iter().map(|c| c.agent.as_str()).collect();
    assert_eq!(agents, ["scripted", "second"]);
    let pool: PoolView = node.get("/api/pool").await;
    assert_eq!((pool.size, pool.busy), (2, 0));
    let unknown = format!("/api/tasks/{}", Uuid::nil());
    assert_eq!(node.request(Method::GET, &unknown).send().await.unwrap().status(), StatusCode::NOT_FOUND);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_cut_off_turn_left_is_its_agents_change_and_not_the_users() {
    let node = TestNode::scripted().await;
    let session = node.session().await;
    let half = node.submit(session.id, "scripted", "TOOL:write half.txt done by half\nCRASH").await;
    node.until("SELECT count(*) = 1 FROM agentpool.lanes WHERE state = 3").await;
    let _: TaskView = node.post(&format!("/api/tasks/{}/cancel", half.id), &(), StatusCode::ACCEPTED).await;
    assert_eq!(
        node.finish(half.id).await.0.status,
        "cancelled",
        "it ends in the queue, with no turn to wrap it up"
    );
    node.turn(session.id, "scripted", "SAY: next").await;
    let changes: Vec<ChangeView> = node.get(&format!("/api/sessions/{}/changes", session.id)).await;
    let who: Vec<_> = changes.iter().map(|c| (c.path.as_str(), c.agent.as_str(), c.task_id)).collect();
    assert_eq!(who, [("half.txt", "scripted", Some(half.id))]);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f07_two_programs_with_one_node_id_do_not_run_on_one_database() {
    let folder = tempfile::tempdir().unwrap();
    let node = TestNode::start(scripted_config(&folder).await, vec![folder]).await;
    let copy = tempfile::tempdir().unwrap();
    let mut config = node.config.clone();
    std::fs::create_dir(copy.path().join("data")).unwrap();
    std::fs::copy(config.data_dir.join("node_id"), copy.path().join("data/node_id")).unwrap();
    config.data_dir = copy.path().join("data");
    let shutdown = agentpool::shutdown::Shutdown::default();
    let second = agentpool::app::Node::start(config, crate::support::shims::agentpool(), shutdown).await;
    assert!(matches!(second.err(), Some(agentpool::app::AppError::SameNode)));
    let session = node.session().await;
    assert_eq!(node.turn(session.id, "scripted", "SAY: undisturbed").await.status, "completed");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_on_a_busy_node_hears_within_seconds_of_an_end_that_nobody_told() {
    let node = TestNode::scripted().await;
    let (busy, quiet) = (node.session().await, node.session().await);
    // A token each 20 ms wakes every reader of the node, for longer than this test may take.
    let noise = node.submit(busy.id, "scripted", "SLOW:10000").await;
    node.follow(noise.id, |event| event.kind == "text").await;
    let later = NewTask {
        session_id: quiet.id,
        agent: "scripted".into(),
        prompt: "SAY: never".into(),
        run_at: Some("9999-01-01T00:00:00Z".parse().unwrap()),
        ..NewTask::default()
    };
    let task: TaskView = node.post("/api/tasks", &later, StatusCode::CREATED).await;
    let path = format!("/api/tasks/{}/events", task.id);
    let sql = node.sql().await;
    let row = "INSERT INTO agentpool.task_messages (task_id, seq, session_id, pos, type, content) VALUES ($1, 1, $2, 1, 'notice', 'first')";
    sql.execute(row, &[&task.id, &quiet.id]).await.unwrap();
    let mut stream = node.request(Method::GET, &path).send().await.unwrap();
    // Its first row is here: it has looked at the status, and waits.
    stream.chunk().await.unwrap().unwrap();
    let end = "UPDATE agentpool.tasks SET status = 'cancelled', finished_at = now() WHERE id = $1";
    sql.execute(end, &[&task.id]).await.unwrap();
    let heard = tokio::time::timeout(std::time::Duration::from_secs(30), stream.text()).await;
    let heard = heard.expect("the net fires although the node is busy").unwrap();
    assert!(heard.contains("event: end") && heard.contains("cancelled"), "{heard}");
    let _: TaskView = node.post(&format!("/api/tasks/{}/cancel", noise.id), &(), StatusCode::ACCEPTED).await;
    node.finish(noise.id).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_forced_close_kept_as_a_checkpoint_can_be_applied() {
    let node = TestNode::scripted().await;
    let session = node.session().await;
    node.turn(session.id, "scripted", "TOOL:write notes.txt precious").await;
    let path = format!("/api/sessions/{}", session.id);
    let close = format!("{path}/close");
    let gone: ClosedView =
        node.post(&close, &CloseSession { force: true, ..CloseSession::default() }, StatusCode::OK).await;
    assert!(gone.worktree_removed);
    let view: SessionView = node.get(&path).await;
    assert_eq!(view.worktree, None);
    let body = ApplyChanges { branch: Some("rescued".into()), message: None, ..ApplyChanges::default() };
    let applied: AppliedView = node.post(&format!("{path}/changes/apply"), &body, StatusCode::OK).await;
    assert_eq!(applied.changes, 1);
    let shown = crate::support::repos::git(&node.project, &["show", "rescued:notes.txt"]);
    assert_eq!(shown.trim(), "precious");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_after_the_close_gets_its_task_and_the_longest_prompt_is_taken_with_its_quotes_escaped() {
    let node = TestNode::scripted().await;
    let session = node.session().await;
    let send = async |key: &str, body: String| {
        let request = node.request(Method::POST, "/api/tasks").header("idempotency-key", key);
        let response = request.header("content-type", "application/json").body(body).send().await.unwrap();
        (response.status(), response.json::<serde_json::Value>().await.unwrap())
    };
    let body = |prompt: &str| {
        format!(
            r#"{{"session_id": "{}", "agent": "scripted", "prompt": "{prompt}", "run_at": "9999-01-01T00:00:00Z"}}"#,
            session.id
        )
    };
    // Each of its characters is two in JSON.
    let longest = body(&r"\n".repeat((1 << 20) - 200).replacen(r"\n", "a", 1));
    let (status, first) = send("k", longest.clone()).await;
    assert_eq!(status, StatusCode::CREATED, "{first}");
    let close = format!("/api/sessions/{}/close", session.id);
    let _: ClosedView = node.post(&close, &CloseSession::default(), StatusCode::OK).await;
    let (status, again) = send("k", longest).await;
    assert_eq!((status, &again["id"]), (StatusCode::OK, &first["id"]));
    assert_eq!(send("k", body("another")).await.0, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(send("l", body("new")).await.0, StatusCode::CONFLICT);
    node.stop().await;
}

/// A configuration whose scripted agent keeps each conversation as a file in the folder that comes with it.
async fn keeping(folder: &tempfile::TempDir) -> (agentpool::config::Config, std::path::PathBuf) {
    let mut config = scripted_config(folder).await;
    let state = folder.path().join("conversations");
    let mut agent = scripted_agent("scripted");
    agent.state = Some(state.clone());
    config.agents.insert(AgentName::new("scripted").unwrap(), agent);
    (config, state)
}

fn files(folder: &std::path::Path) -> usize {
    std::fs::read_dir(folder).unwrap().count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_session_ends_its_conversation_also_when_that_is_cold() {
    let folder = tempfile::tempdir().unwrap();
    let (config, state) = keeping(&folder).await;
    let node = TestNode::start(config, vec![folder]).await;
    let session = node.session().await;
    node.turn(session.id, "scripted", "SAY: hi").await;
    let (config, project, folders) = node.stop().await;
    let node = TestNode::start_on(config, project, folders).await;
    let pool: PoolView = node.get("/api/pool").await;
    assert_eq!((pool.size, files(&state)), (0, 1), "the agent has the conversation, the pool does not");
    let path = format!("/api/sessions/{}/close", session.id);
    let closed: ClosedView = node.post(&path, &CloseSession::default(), StatusCode::OK).await;
    assert!(closed.worktree_removed, "{closed:?}");
    assert_eq!(files(&state), 0, "the agent was told");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_again_tells_an_agent_that_was_not_told_the_first_time() {
    let folder = tempfile::tempdir().unwrap();
    let (config, state) = keeping(&folder).await;
    let node = TestNode::start(config, vec![folder]).await;
    let session = node.session().await;
    node.turn(session.id, "scripted", "TOOL:write notes.txt precious").await;
    // As a node leaves it that dies between the rows and the agent.
    let half = "UPDATE agentpool.sessions SET status = 'closed', closed_at = clock_timestamp();
                UPDATE agentpool.agent_sessions SET status = 'closed'";
    node.sql().await.batch_execute(half).await.unwrap();
    let path = format!("/api/sessions/{}/close", session.id);
    let gone: ClosedView =
        node.post(&path, &CloseSession { force: true, ..CloseSession::default() }, StatusCode::OK).await;
    assert!(gone.worktree_removed, "{gone:?}");
    assert_eq!(files(&state), 0, "the agent was told");
    let pool: PoolView = node.get("/api/pool").await;
    assert_eq!(pool.size, 0);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prepared_session_has_its_worktree_before_its_first_turn_and_loses_it_when_it_is_closed() {
    let node = TestNode::scripted().await;
    let path = Some(node.project.display().to_string());
    let prepare =
        |agent: &str| NewSession { path: path.clone(), prepare: vec![agent.into()], ..NewSession::default() };
    let session: SessionView = node.post("/api/sessions", &prepare("scripted"), StatusCode::CREATED).await;
    let worktree = session.worktree.expect("it was made at once");
    assert!(std::path::Path::new(&worktree).join(".git").exists());
    assert_eq!(node.turn(session.id, "scripted", "SAY: hi").await.output.as_deref(), Some("hi"));
    assert_eq!(
        node.get::<SessionView>(&format!("/api/sessions/{}", session.id)).await.worktree,
        Some(worktree)
    );

    let idle: SessionView = node.post("/api/sessions", &prepare("scripted"), StatusCode::CREATED).await;
    let close = format!("/api/sessions/{}/close", idle.id);
    let closed: ClosedView = node.post(&close, &CloseSession::default(), StatusCode::OK).await;
    assert!(closed.worktree_removed && !std::path::Path::new(&idle.worktree.unwrap()).exists());

    let refused: Problem =
        node.post("/api/sessions", &prepare("nobody"), StatusCode::UNPROCESSABLE_ENTITY).await;
    assert!(refused.detail.contains("GET /api/agents"), "{refused:?}");
    let url = NewSession { url: Some("https://example.org/x.git".into()), path: None, ..prepare("scripted") };
    let refused: Problem = node.post("/api/sessions", &url, StatusCode::UNPROCESSABLE_ENTITY).await;
    assert!(refused.detail.contains("leave out prepare"), "{refused:?}");
    node.stop().await;
}
