//! Faults of the real opencode as the queue and its callers see them: what is tried again, what is told again, what is said.

use crate::support::cli::User;
use crate::support::faulty_way::script;
use crate::support::leaks::until;
use crate::support::node::{PATIENCE, TestNode, opencode_config, scripted_config, shared_opencode};
use crate::support::opencode::{model_config, opencode_program};
use agentpool::domain::agent::AgentName;
use agentpool::scripted_model::ScriptedModel;
use agentpool::wire::api::{SessionView, TaskView};
use agentpool::wire::event::EventView;
use agentpool::wire::pool::PoolView;
use futures::future::join_all;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;

#[tokio::test(flavor = "multi_thread")]
async fn f57_prompts_that_come_at_once_for_one_session_run_one_after_another_and_each_is_answered() {
    let (node, model) = shared_opencode().await;
    let session = node.session().await;
    let tasks = join_all((0..10).map(|n| {
        let (node, said) = (&node, format!("SAY: f57 answer {n}"));
        async move { node.submit(session.id, "opencode", &said).await }
    }))
    .await;
    for (n, task) in tasks.iter().enumerate() {
        let (task, _) = node.finish(task.id).await;
        assert_eq!(task.output, Some(format!("f57 answer {n}")), "{task:?}");
    }
    let asked =
        model.requests().into_iter().filter(|request| !request.side && request.directive.contains("f57"));
    let mut turns: Vec<_> = asked.map(|request| request.user_turns.len()).collect();
    turns.sort_unstable();
    assert_eq!(turns, (1..=10).collect::<Vec<_>>(), "each prompt was one run, after all before it");
}

#[tokio::test(flavor = "multi_thread")]
async fn f60_a_conversation_that_opencode_shortens_by_itself_goes_on_and_the_summary_is_no_answer() {
    let (node, _) = shared_opencode().await;
    let session = node.session().await;
    for n in 0..4 {
        node.turn(session.id, "opencode", &format!("SAY: filler {n}")).await;
    }
    let task = node.submit(session.id, "opencode", "OVERFLOW:4\nSAY: it fits").await;
    let (task, events) = node.finish(task.id).await;
    assert_eq!((task.output.as_deref(), task.attempt), (Some("it fits"), 1), "{events:#?}");
    assert!(has_notice(&events, "shortened the conversation"), "{events:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn f48_f59_f60_a_killed_server_a_silent_person_and_an_outgrown_conversation_cost_a_task_one_try_at_most()
 {
    let model = ScriptedModel::start(0).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut config = opencode_config(&folder, &model.base_url()).await;
    let asking = config.agents.get_mut(&AgentName::new("asking").unwrap()).unwrap();
    let policy = r#"{"policy": "ask", "deadline_secs": 1, "default": "allow"}"#;
    asking.permission = serde_json::from_str(policy).unwrap();
    let content = model_config(&model.base_url()).replacen('{', r#"{"compaction":{"auto":false},"#, 1);
    asking.env.insert("OPENCODE_CONFIG_CONTENT".into(), content);
    let node = TestNode::start(config, vec![folder]).await;
    a_killed_server_and_a_silent_person(&node).await;
    an_outgrown_conversation(&node, &model).await;
    node.stop().await;
}

async fn a_killed_server_and_a_silent_person(node: &TestNode) {
    let session = node.session().await;
    let outside = tempfile::tempdir().unwrap();
    let (begun, go) = (outside.path().join("begun"), outside.path().join("go"));
    // It asks for the folder outside of its worktree, and for the command: nobody answers either.
    let tool = format!("TOOL:bash touch {}; [ -e {} ] || sleep 600", begun.display(), go.display());
    let task = node.submit(session.id, "asking", &tool).await;
    until("the tool runs", PATIENCE, || begun.exists()).await;
    let pool: PoolView = node.get("/api/pool").await;
    let server = pool.backends.iter().find(|backend| backend.agent == "asking").unwrap().pids[0];
    fs::write(&go, "").unwrap();
    kill(Pid::from_raw(server.cast_signed()), Signal::SIGKILL).unwrap();
    let (task, events) = node.finish(task.id).await;
    assert_eq!((task.status.as_str(), task.attempt, task.failures), ("completed", 2, 1), "{task:?}");
    for words in ["nobody answered", "this try failed: the agent was lost: opencode ended with signal 9"] {
        assert!(has_notice(&events, words), "{events:#?}");
    }
}

async fn an_outgrown_conversation(node: &TestNode, model: &ScriptedModel) {
    let session = node.session().await;
    let conversation = async || {
        let view: SessionView = node.get(&format!("/api/sessions/{}", session.id)).await;
        view.conversations[0].clone()
    };
    node.turn(session.id, "asking", "SAY: the heron stands").await;
    let outgrown = conversation().await.agent_session_id;
    let task = node.submit(session.id, "asking", "OVERFLOW:1\nSAY: it fits").await;
    let (task, events) = node.finish(task.id).await;
    assert_eq!((task.status.as_str(), task.output.as_deref()), ("completed", Some("it fits")), "{events:#?}");
    let overflew = |event: &EventView| format!("{:?}", event.input).contains("context_overflow");
    assert!(events.iter().any(|event| event.kind == "turn_ended" && overflew(event)), "{events:#?}");
    assert_eq!((task.attempt, task.failures), (2, 1));
    let now = conversation().await;
    assert_ne!(now.agent_session_id, outgrown);
    assert_eq!(now.poisoned_reason, None, "the new one is sound");
    let last =
        model.requests().into_iter().rev().find(|request| request.directive.contains("it fits")).unwrap();
    assert!(last.text().contains("the heron stands"), "told again");
    let recalled = node.turn(session.id, "asking", "RECALL").await;
    assert!(recalled.output.as_deref().unwrap().contains("it fits"), "{recalled:?}");
    assert_eq!(
        conversation().await.agent_session_id,
        now.agent_session_id,
        "the outgrown one is never resumed"
    );
}

fn has_notice(events: &[EventView], words: &str) -> bool {
    events
        .iter()
        .any(|event| event.kind == "notice" && event.content.as_deref().unwrap_or_default().contains(words))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_cannot_be_started_says_why_at_the_row_and_at_the_caller_and_runs_once_it_can() {
    let model = ScriptedModel::start(0).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let home = tempfile::tempdir().unwrap();
    let program = script(home.path(), &format!("exec '{}' \"$@\"", opencode_program().await.display()));
    let mut config = scripted_config(&folder).await;
    let agent = serde_json::json!({
        "backend": "opencode_server", "command": program, "home": "isolated",
        "env": {"OPENCODE_CONFIG_CONTENT": model_config(&model.base_url()), "OPENCODE_DISABLE_MODELS_FETCH": "1"},
    });
    config.agents.insert(AgentName::new("opencode").unwrap(), serde_json::from_value(agent).unwrap());
    let node = TestNode::start(config, vec![folder]).await;
    let away = program.with_extension("away");
    fs::rename(&program, &away).unwrap();

    let user = User::of(&node.url).with("AGENTPOOL_TOKEN", &*node.token);
    let project = node.project.display().to_string();
    let mut caller =
        user.start(&["submit", "--project", &project, "--agent", "opencode", "--follow", "SAY: at last"]);
    let said = caller.line_with("this try failed").await;
    assert!(said.contains("was not found") && said.contains("install it"), "{said}");
    node.until("SELECT count(*) = 1 FROM agentpool.tasks WHERE status = 'queued' AND failure_reason = 'spawn_failed'").await;
    let waiting = node.get::<Vec<TaskView>>("/api/tasks").await.remove(0);
    assert!(waiting.error.as_deref().unwrap().contains("was not found"), "{waiting:?}");
    assert_eq!(waiting.failures, 0);
    let beside = node.session().await;
    assert_eq!(node.turn(beside.id, "scripted", "SAY: beside").await.status, "completed");

    fs::rename(&away, &program).unwrap();
    let ended = caller.end().await.expect(0);
    assert!(ended.stdout.contains("at last"), "{}", ended.stdout);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f53_an_agent_of_a_version_that_is_not_supported_fails_its_task_once_and_says_which_one_is() {
    let folder = tempfile::tempdir().unwrap();
    let health = axum::Json(serde_json::json!({ "healthy": true, "version": "2.0.1" }));
    let answers =
        axum::Router::new().route("/global/health", axum::routing::get(move || async move { health }));
    let url = crate::support::cli::serve(answers).await;
    let program =
        script(folder.path(), &format!("echo 'opencode server listening on {url}'; exec sleep 1000"));
    let mut config = scripted_config(&folder).await;
    let agent = serde_json::json!({ "backend": "opencode_server", "command": program, "home": "isolated" });
    config.agents.insert(AgentName::new("opencode").unwrap(), serde_json::from_value(agent).unwrap());
    let node = TestNode::start(config, vec![folder]).await;
    let user = User::of(&node.url).with("AGENTPOOL_TOKEN", &*node.token);
    let project = node.project.display().to_string();
    let ended = user
        .run(&["submit", "--project", &project, "--agent", "opencode", "--follow", "hello"])
        .await
        .expect(3);
    let told = format!("{}{}", ended.stdout, ended.stderr);
    let task = node.get::<Vec<TaskView>>("/api/tasks").await.remove(0);
    assert_eq!((task.failure_reason.as_deref(), task.attempt), (Some("agent_incompatible"), 1), "{task:?}");
    for words in ["opencode 2.0.1", "install opencode-ai@1.18.33"] {
        assert!(task.error.as_deref().unwrap().contains(words) && told.contains(words), "{told} {task:?}");
    }
    node.stop().await;
}
