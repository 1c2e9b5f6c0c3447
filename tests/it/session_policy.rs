//! What a session says about permissions beats what its agents' configurations say, and only for that session.

use crate::support::cli::User;
use crate::support::cluster::fresh_database;
use crate::support::node::{Talk, TestNode, scripted_agent, scripted_config};
use crate::support::serve::{Place, SCRIPTED};
use agentpool::domain::agent::AgentName;
use agentpool::wire::api::{NewSession, PermissionView, SessionView};
use agentpool::wire::permission::AnswerBody;
use nix::sys::signal::Signal;
use reqwest::StatusCode;
use serde_json::{Value, json};

const ASKS: &str = "ASK: read src/a.rs\nASK: bash: rm";

async fn session(talk: &Talk, permission: Option<&str>) -> SessionView {
    let body = NewSession {
        path: Some(talk.project.display().to_string()),
        permission: permission.map(str::to_owned),
        ..NewSession::default()
    };
    talk.post("/api/sessions", &body, StatusCode::CREATED).await
}

#[tokio::test(flavor = "multi_thread")]
async fn each_session_has_its_own_answer_and_without_one_the_agents_holds() {
    let node = TestNode::scripted().await;
    for (permission, answers) in [
        (None, ["allowed", "allowed"]),
        (Some("allow_reads"), ["allowed", "denied"]),
        (Some("deny"), ["denied", "denied"]),
    ] {
        let session = session(&node, permission).await;
        assert_eq!(session.permission.as_deref(), permission);
        let output = node.turn(session.id, "scripted", ASKS).await.output.unwrap_or_default();
        let wanted = format!("{}: read src/a.rs {}: bash: rm ", answers[0], answers[1]);
        assert_eq!(output, wanted, "{permission:?}");
    }
    let rows: Vec<PermissionView> = node.get("/api/permissions?all=true").await;
    let why =
        |row: &PermissionView| row.answer.as_ref().unwrap()["message"].as_str().unwrap_or("").to_owned();
    let refused = rows.iter().find(|row| why(row).contains("allow_reads")).expect("the refusal says why");
    assert_eq!((refused.title.as_str(), refused.answered_by.as_deref()), ("bash: rm", Some("policy")));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_asks_has_the_agents_deadline_and_default() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = scripted_config(&folder).await;
    let mut lax = scripted_agent("scripted");
    let permission = json!({"policy": "deny", "deadline_secs": 1, "default": "allow"});
    lax.permission = serde_json::from_value(permission).unwrap();
    config.agents.insert(AgentName::new("scripted").unwrap(), lax);
    let node = TestNode::start(config, vec![folder]).await;
    let session = session(&node, Some("ask")).await;
    let output = node.turn(session.id, "scripted", "ASK: may I").await.output.unwrap_or_default();
    assert_eq!(output, "allowed: may I ", "nobody answered for a second, and the default is allow");
    let rows: Vec<PermissionView> = node.get("/api/permissions?all=true").await;
    assert_eq!(rows[0].status, "expired");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_word_that_is_no_policy_is_refused_by_api_and_table() {
    let node = TestNode::scripted().await;
    let body = json!({"path": node.project.display().to_string(), "permission": "yolo"});
    let problem: Value = node.post("/api/sessions", &body, StatusCode::UNPROCESSABLE_ENTITY).await;
    assert!(problem.to_string().contains("allow_reads"), "{problem}");
    let session = session(&node, None).await;
    let by_hand = "UPDATE agentpool.sessions SET permission_policy = 'yolo' WHERE id = $1";
    assert!(node.sql().await.execute(by_hand, &[&session.id]).await.is_err());
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_that_was_open_when_the_service_was_killed_is_closed_and_asked_again() {
    let database = fresh_database().await;
    let place = Place::on(&database, SCRIPTED);
    let served = place.serve().await;
    let session = session(&served.talk, Some("ask")).await;
    let task = served.talk.submit(session.id, "scripted", "ASK: may I\nSAY: went on").await;
    let first = served.talk.one_pending_permission().await;
    assert_eq!(first.repeats, None);
    served.signal(Signal::SIGKILL);
    served.ended().await;

    let served = place.serve().await;
    served.talk.until("SELECT count(*) = 2 FROM agentpool.permission_requests").await;
    let second = served.talk.one_pending_permission().await;
    assert_eq!(
        (second.repeats, second.title.as_str()),
        (Some(first.id), "may I"),
        "it says that it comes again"
    );
    let all: Vec<PermissionView> = served.talk.get("/api/permissions?all=true").await;
    let closed = all.iter().find(|row| row.id == first.id).unwrap();
    assert_eq!((closed.status.as_str(), closed.answered_by.as_deref()), ("cancelled", Some("node_lost")));
    let to = |request: &PermissionView| format!("/api/permissions/{}/answer", request.id);
    let _: Value = served.talk.post(&to(&first), &AnswerBody::AllowOnce, StatusCode::CONFLICT).await;
    let _: Value = served.talk.post(&to(&second), &AnswerBody::AllowOnce, StatusCode::OK).await;
    let (task, _) = served.talk.finish(task.id).await;
    assert_eq!((task.status.as_str(), task.failures), ("completed", 0), "{task:?}");
    assert!(task.output.as_deref().is_some_and(|output| output.ends_with("went on")), "{task:?}");
    served.signal(Signal::SIGTERM);
    served.ended().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_makes_a_session_with_a_policy_and_shows_it() {
    let node = TestNode::scripted().await;
    let user = User::of(&node.url).with("AGENTPOOL_TOKEN", node.token.clone());
    let project = node.project.display().to_string();
    let new = ["session", "new", "--project", &project, "--permission", "allow_reads", "--json"];
    let made = user.run(&new).await.expect(0).json();
    let shown = user.run(&["session", "show", made["id"].as_str().unwrap()]).await.expect(0).stdout;
    assert!(shown.contains("allow_reads"), "{shown}");
    let refused = user.run(&["session", "new", "--project", &project, "--permission", "yolo"]).await;
    assert_eq!(refused.code, Some(2));
    let submit = ["submit", "--project", &project, "--permission", "deny", "--json", "ASK: may I"];
    let task = user.run(&submit).await.expect(0).json();
    let (task, _) = node.finish(task["id"].as_str().unwrap().parse().unwrap()).await;
    assert_eq!(task.output.as_deref(), Some("denied: may I "));
    node.stop().await;
}
