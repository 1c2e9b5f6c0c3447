//! Who gets in, and what each sees: everything that has an id, asked for by those whose it is not.

use crate::support::cli::User;
use crate::support::node::{PATIENCE, Talk, TestNode, scripted_config};
use agentpool::wire::api::{
    CheckpointView, NewProject, NewSession, NewTask, NewToken, NewTokenView, NewWorkspace,
    PermissionRuleView, PermissionView, Problem, ProjectView, SessionView, TaskView, TokenView,
    WorkspaceView,
};
use futures::StreamExt;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

async fn token(node: &Talk, scope: &str, workspace: Option<&str>) -> (TokenView, Talk) {
    let body =
        NewToken { name: format!("a {scope}"), scope: scope.into(), workspace: workspace.map(str::to_owned) };
    let made: NewTokenView = node.post("/api/tokens", &body, StatusCode::CREATED).await;
    (made.token, Talk { token: made.secret, ..node.clone() })
}

async fn status(talk: &Talk, method: Method, path: &str) -> StatusCode {
    talk.request(method, path).json(&json!({})).send().await.unwrap().status()
}

/// A node whose agent asks, and a workspace beside `default`.
async fn node() -> TestNode {
    let folder = tempfile::tempdir().unwrap();
    let mut config = scripted_config(&folder).await;
    let asking = json!({"backend": "scripted", "permission": {"policy": "ask"}});
    config.agents.insert(
        agentpool::domain::agent::AgentName::new("asking").unwrap(),
        serde_json::from_value(asking).unwrap(),
    );
    let node = TestNode::start(config, vec![folder]).await;
    let other = NewWorkspace { name: "other".into() };
    node.post::<WorkspaceView>("/api/workspaces", &other, StatusCode::CREATED).await;
    node
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_sees_its_workspace_and_nothing_of_another() {
    let node = node().await;
    let (_, mine) = token(&node, "client", None).await;
    let (_, others) = token(&node, "client", Some("other")).await;
    let path = node.project.display().to_string();
    let made_known = NewProject { path: Some(path.clone()), ..NewProject::default() };
    node.post::<ProjectView>("/api/projects", &made_known, StatusCode::CREATED).await;
    let session = mine.session().await;
    let done = mine.turn(session.id, "scripted", "TOOL:write a.txt x").await;
    let asks = mine.submit(session.id, "asking", "ASK: may I").await;
    let asked: PermissionView = mine.one_pending_permission().await;

    // A path of the machine that nobody made known in that workspace is not there for it.
    let stranger = NewSession { path: Some(path), ..NewSession::default() };
    let refused: Problem = others.post("/api/sessions", &stranger, StatusCode::NOT_FOUND).await;
    assert!(refused.detail.contains("only an admin"), "{refused:?}");
    let by_id = NewSession { project_id: Some(session.project_id), ..NewSession::default() };
    others.post::<Problem>("/api/sessions", &by_id, StatusCode::NOT_FOUND).await;
    let task = NewTask {
        session_id: session.id,
        agent: "scripted".into(),
        prompt: "SAY: x".into(),
        ..NewTask::default()
    };
    others.post::<Problem>("/api/tasks", &task, StatusCode::NOT_FOUND).await;
    others.post::<Problem>("/api/tasks/batch", &json!({"tasks": [task]}), StatusCode::NOT_FOUND).await;
    let answer = json!({"decision": "allow_once"});
    others
        .post::<Problem>(&format!("/api/permissions/{}/answer", asked.id), &answer, StatusCode::NOT_FOUND)
        .await;
    let always = json!({"decision": "allow_always", "rule": "agent"});
    others
        .post::<Problem>(&format!("/api/permissions/{}/answer", asked.id), &always, StatusCode::NOT_FOUND)
        .await;
    let forbids = json!({"session_id": session.id, "tool": "webfetch", "decision": "deny"});
    others.post::<Problem>("/api/permission-rules", &forbids, StatusCode::NOT_FOUND).await;
    let aside = json!({"agent": "asking", "workspace": "default", "tool": "x", "decision": "allow"});
    others.post::<Problem>("/api/permission-rules", &aside, StatusCode::NOT_FOUND).await;
    let rule: PermissionRuleView = mine.post("/api/permission-rules", &forbids, StatusCode::CREATED).await;
    assert!(rule.created_by.starts_with("token "), "{rule:?}");
    let of_rule = format!("/api/permission-rules/{}", rule.id);
    assert_eq!(status(&others, Method::DELETE, &of_rule).await, StatusCode::NOT_FOUND);
    let (s, t) = (session.id, done.id);
    for path in [
        format!("/api/sessions/{s}"),
        format!("/api/sessions/{s}/events"),
        format!("/api/sessions/{s}/messages"),
        format!("/api/sessions/{s}/changes"),
        format!("/api/sessions/{s}/files"),
        format!("/api/sessions/{s}/diff"),
        format!("/api/sessions/{s}/lines?path=a.txt"),
        format!("/api/sessions/{s}/checkpoints"),
        format!("/api/tasks/{t}/changes"),
        format!("/api/tasks/{t}/diff"),
        format!("/api/tasks/{t}"),
        format!("/api/tasks/{t}/events"),
        format!("/api/tasks/{t}/messages"),
    ] {
        assert_eq!(status(&others, Method::GET, &path).await, StatusCode::NOT_FOUND, "{path}");
        assert_eq!(status(&mine, Method::GET, &path).await, StatusCode::OK, "{path}");
    }
    let checkpoints: Vec<CheckpointView> = mine.get(&format!("/api/sessions/{s}/checkpoints")).await;
    let checkpoint = checkpoints[0].id;
    let all = json!({"all": true});
    others.post::<Problem>(&format!("/api/sessions/{s}/changes/reject"), &all, StatusCode::NOT_FOUND).await;
    for path in [
        format!("/api/sessions/{s}/close"),
        format!("/api/sessions/{s}/changes/apply"),
        format!("/api/sessions/{s}/checkpoints/{checkpoint}/restore"),
        format!("/api/tasks/{}/cancel", asks.id),
        format!("/api/tasks/{t}/retry"),
    ] {
        assert_eq!(status(&others, Method::POST, &path).await, StatusCode::NOT_FOUND, "{path}");
    }
    for list in
        ["/api/sessions", "/api/tasks", "/api/permissions?all=true", "/api/permission-rules", "/api/projects"]
    {
        assert_eq!(others.get::<Vec<Value>>(list).await.len(), 0, "{list}");
        assert!(!mine.get::<Vec<Value>>(list).await.is_empty(), "{list}");
    }
    assert_eq!(others.get::<Vec<WorkspaceView>>("/api/workspaces").await[0].name, "other");
    let url = NewSession { url: Some("https://example.org/x.git".into()), ..NewSession::default() };
    let own: SessionView = others.post("/api/sessions", &url, StatusCode::CREATED).await;
    assert_eq!(status(&mine, Method::GET, &format!("/api/sessions/{}", own.id)).await, StatusCode::NOT_FOUND);
    let aside = NewSession { workspace: Some("default".into()), ..url };
    others.post::<Problem>("/api/sessions", &aside, StatusCode::NOT_FOUND).await;

    // What concerns the whole service is there for admins alone, and nothing but its own routes for a runner.
    let (_, runner) = token(&node, "runner", None).await;
    for (method, path) in
        [(Method::GET, "/api/pool"), (Method::GET, "/api/tokens"), (Method::POST, "/api/workspaces")]
    {
        assert!(!status(&mine, method.clone(), path).await.is_success(), "{path}");
        assert_eq!(status(&runner, method, path).await, StatusCode::NOT_FOUND, "{path}");
    }
    let new = json!({"name": "x", "scope": "admin"});
    mine.post::<Problem>("/api/tokens", &new, StatusCode::NOT_FOUND).await;
    assert_eq!(status(&runner, Method::GET, "/api/tasks").await, StatusCode::NOT_FOUND);
    let (_, admin) = token(&node, "admin", None).await;
    assert_eq!(status(&admin, Method::GET, "/api/pool").await, StatusCode::OK);
    assert_eq!(status(&runner, Method::GET, "/api/permission-rules").await, StatusCode::NOT_FOUND);
    assert_eq!(status(&mine, Method::DELETE, &of_rule).await, StatusCode::NO_CONTENT);
    mine.cancel(asks.id).await;
    mine.finish(asks.id).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hints_of_another_workspace_are_not_heard() {
    let node = node().await;
    let (_, others) = token(&node, "client", Some("other")).await;
    let (mine, theirs) = (node.session().await.id, {
        let url = NewSession { url: Some("https://example.org/x.git".into()), ..NewSession::default() };
        others.post::<SessionView>("/api/sessions", &url, StatusCode::CREATED).await.id
    });
    let answer = others.request(Method::GET, "/api/events").send().await.unwrap();
    node.turn(mine, "scripted", "SAY: secret").await;
    let task = NewTask {
        session_id: theirs,
        agent: "scripted".into(),
        prompt: "SAY: x".into(),
        ..NewTask::default()
    };
    others.post::<TaskView>("/api/tasks", &task, StatusCode::CREATED).await;
    let mut heard = String::new();
    let mut stream = answer.bytes_stream();
    let until_theirs = async {
        while !heard.contains(&theirs.to_string()) {
            heard.push_str(&String::from_utf8_lossy(&stream.next().await.unwrap().unwrap()));
        }
    };
    tokio::time::timeout(PATIENCE, until_theirs).await.expect("its own session is named");
    assert!(!heard.contains(&mine.to_string()), "{heard}");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_token_lets_nobody_in_and_what_it_held_open_is_closed() {
    let node = node().await;
    let session = node.session().await.id;
    let (row, client) = token(&node, "client", None).await;
    let events =
        client.request(Method::GET, &format!("/api/sessions/{session}/events")).send().await.unwrap();
    let hints = client.request(Method::GET, "/api/events").send().await.unwrap();
    let listed: Vec<TokenView> = node.get("/api/tokens").await;
    assert!(listed.iter().any(|known| known.id == row.id && known.last_used_at.is_some()), "{listed:?}");
    let kept: Vec<u8> = node
        .sql()
        .await
        .query_one("SELECT hash FROM agentpool.api_tokens WHERE id = $1", &[&row.id])
        .await
        .unwrap()
        .get(0);
    assert_ne!(kept, client.token.as_bytes(), "the text is nowhere");
    let path = format!("/api/tokens/{}/revoke", row.id);
    node.post::<TokenView>(&path, &(), StatusCode::OK).await;
    node.post::<Problem>(&path, &(), StatusCode::CONFLICT).await;
    // Both end by themselves.
    let ended = async { tokio::join!(events.text(), hints.text()) };
    let (events, hints) = tokio::time::timeout(PATIENCE, ended).await.expect("they are closed");
    assert!(events.is_ok() && hints.is_ok());
    let out = async {
        while status(&client, Method::GET, "/api/tasks").await != StatusCode::UNAUTHORIZED {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, out).await.expect("it is refused");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_guesses_is_not_listened_to_for_a_while_and_the_owner_is() {
    let node = TestNode::scripted().await;
    let guess = Talk { token: "agp_guess".into(), ..(*node).clone() };
    for _ in 0..10 {
        assert_eq!(status(&guess, Method::GET, "/api/tasks").await, StatusCode::UNAUTHORIZED);
    }
    let shut = guess.request(Method::GET, "/api/tasks").send().await.unwrap();
    assert_eq!(shut.status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(shut.headers().contains_key("retry-after"));
    assert_eq!(shut.json::<Problem>().await.unwrap().code, "too_many_failures");
    assert_eq!(
        status(&node, Method::GET, "/api/tasks").await,
        StatusCode::OK,
        "the owner is known without asking"
    );
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_other_origins_and_other_names_are_refused_and_nothing_is_shared_with_them() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = scripted_config(&folder).await;
    config.hosts = vec!["pool.example.org".into()];
    let node = TestNode::start(config, vec![folder]).await;
    let ask = async |header: &str, value: &str| {
        let request = node.request(Method::GET, "/api/tasks").header(header, value);
        let answer = request.send().await.unwrap();
        assert!(!answer.headers().keys().any(|name| name.as_str().starts_with("access-control")));
        answer.status()
    };
    assert_eq!(ask("host", "pool.example.org").await, StatusCode::OK);
    assert_eq!(ask("host", "evil.example").await, StatusCode::MISDIRECTED_REQUEST);
    assert_eq!(ask("origin", "https://pool.example.org").await, StatusCode::OK);
    for origin in ["https://evil.example", "null"] {
        assert_eq!(ask("origin", origin).await, StatusCode::FORBIDDEN, "{origin}");
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_does_not_come_and_a_connection_that_says_nothing_are_closed() {
    let node = TestNode::scripted().await;
    let address = node.url.strip_prefix("http://").unwrap().to_owned();
    let wait = async |words: &str| {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        stream.write_all(words.as_bytes()).await.unwrap();
        let mut said = Vec::new();
        // An answer may come (408, or that of the first request); then the other end closes.
        let closed = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut said)).await;
        assert!(closed.is_ok(), "still open after {PATIENCE:?}: {words:?}");
    };
    tokio::join!(
        wait("GET /livez HTTP/1.1\r\nHost: localhost\r\nX-Slow"),
        wait("GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        wait("")
    );
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_made_listed_and_revoked_by_the_command_line() {
    let node = TestNode::scripted().await;
    let owner = User::of(&node.url).with("AGENTPOOL_TOKEN", node.token.clone());
    let made = owner.run(&["token", "create", "ci"]).await.expect(0);
    let secret = made.stdout.trim().to_owned();
    assert!(secret.starts_with("agp_") && made.stderr.contains("token revoke"), "{made:?}");
    let client = User::of(&node.url).with("AGENTPOOL_TOKEN", secret.clone());
    client.run(&["tasks"]).await.expect(0);
    let refused = client.run(&["token", "list"]).await.expect(4);
    assert!(refused.stderr.contains("no such route for this token"), "{refused:?}");
    let listed = owner.run(&["token", "list", "--json"]).await.expect(0);
    assert!(!listed.stdout.contains(&secret));
    let listed: Vec<TokenView> = serde_json::from_str(&listed.stdout).unwrap();
    assert_eq!((listed[0].name.as_str(), listed[0].scope.as_str()), ("ci", "client"));
    let revoked = owner.run(&["token", "revoke", &listed[0].id.to_string()]).await.expect(0);
    assert!(revoked.stdout.contains("ci lets nobody in"), "{revoked:?}");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_is_explained_and_put_in_again_by_the_command_line() {
    let node = TestNode::scripted().await;
    let session = node.session().await.id;
    let failed = node.submit_with(session, "scripted", "FAIL:provider_errorx9", 1).await;
    let (failed, _) = node.finish(failed.id).await;
    let user = User::of(&node.url).with("AGENTPOOL_TOKEN", node.token.clone());
    let id = failed.id.to_string();
    let story = user.run(&["task", "explain", &id]).await.expect(0).stdout;
    for words in ["put in", "attempt 1 begins", ", fence 1", "attempt ends: failed", "provider_error"] {
        assert!(story.contains(words), "{words}: {story}");
    }
    let story: Value =
        serde_json::from_str(&user.run(&["task", "explain", &id, "--json"]).await.expect(0).stdout).unwrap();
    assert_eq!(story["task"]["attempts"][0]["reason"], "provider_error");
    let again = user.run(&["task", "retry", &id, "--json"]).await.expect(0);
    let again: TaskView = serde_json::from_str(&again.stdout).unwrap();
    assert_eq!(again.retry_of, Some(failed.id));
    node.finish(again.id).await;
    let shown = user.run(&["task", &again.id.to_string()]).await.expect(0).stdout;
    assert!(shown.contains("retry of"), "{shown}");
    node.stop().await;
}
