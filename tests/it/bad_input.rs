//! Bad input at each of the three edges: a refusal that says what to do, a stable code, not one row changed, and the service
//! works on.

use crate::support::cli::User;
use crate::support::fingerprint::fingerprint;
use crate::support::node::TestNode;
use crate::support::queue::Queue;
use crate::support::repos::picture;
use agentpool::domain::task::PROMPT_BYTES_MAX;
use agentpool::wire::api::{ClosedView, NewTask, TaskView};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use uuid::Uuid;

/// What a refusal must not show: these are the database's own words.
const RAW: [&str; 3] = ["violates", "db error", "constraint"];

/// A node with an open session in which a turn has written a file, and a closed one.
struct Stage {
    node: TestNode,
    open: Uuid,
    closed: Uuid,
    ended: TaskView,
}

impl Stage {
    async fn new() -> Self {
        let node = TestNode::scripted().await;
        let (open, closed) = (node.session().await.id, node.session().await.id);
        let ended = node.turn(open, "scripted", "TOOL:write notes.txt remember this").await;
        assert_eq!(ended.status, "completed");
        let path = format!("/api/sessions/{closed}/close");
        node.post::<ClosedView>(&path, &json!({}), StatusCode::OK).await;
        let task = NewTask {
            session_id: open,
            agent: "scripted".into(),
            prompt: "SAY: once".into(),
            ..NewTask::default()
        };
        let keyed = node.request(Method::POST, "/api/tasks").header("Idempotency-Key", "used").json(&task);
        assert_eq!(keyed.send().await.unwrap().status(), StatusCode::CREATED);
        let stage = Self { node, open, closed, ended };
        stage.works_on().await;
        stage
    }

    /// A turn runs to its end, and everything before it in its session did.
    async fn works_on(&self) {
        assert_eq!(self.node.turn(self.open, "scripted", "SAY: hi").await.status, "completed");
    }

    fn task(&self, changed: Value) -> String {
        let mut task = json!({"session_id": self.open, "agent": "scripted", "prompt": "SAY: hi"});
        for (name, value) in changed.as_object().unwrap() {
            task[name] = value.clone();
        }
        task.to_string()
    }
}

struct Row {
    method: Method,
    path: String,
    body: String,
    headers: Vec<(&'static str, String)>,
    status: u16,
    code: &'static str,
    says: &'static str,
}

fn row(
    method: Method,
    path: &str,
    body: impl Into<String>,
    status: u16,
    code: &'static str,
    says: &'static str,
) -> Row {
    let json = ("content-type", "application/json".to_owned());
    Row { method, path: path.to_owned(), body: body.into(), headers: vec![json], status, code, says }
}

fn post(path: &str, body: impl Into<String>, status: u16, code: &'static str, says: &'static str) -> Row {
    row(Method::POST, path, body, status, code, says)
}

fn get(path: &str, status: u16, code: &'static str, says: &'static str) -> Row {
    Row { headers: Vec::new(), ..row(Method::GET, path, "", status, code, says) }
}

fn tasks(stage: &Stage) -> Vec<Row> {
    let new =
        |changed: Value, status, code, says| post("/api/tasks", stage.task(changed), status, code, says);
    let keyed = |key: &str, code, says| Row {
        headers: vec![("content-type", "application/json".into()), ("idempotency-key", key.into())],
        ..new(json!({}), 422, code, says)
    };
    let ended = stage.ended.id;
    vec![
        new(json!({"agent": "nobody"}), 404, "not_found", "GET /api/agents lists"),
        new(json!({"agent": ""}), 422, "invalid", "use 1 to 64 of a-z"),
        new(json!({"agent": "../../etc/passwd"}), 422, "invalid", "use 1 to 64 of a-z"),
        new(json!({"agent": "--upload-pack=x"}), 422, "invalid", "use 1 to 64 of a-z"),
        new(json!({"agent": "a\0b"}), 422, "invalid", "use 1 to 64 of a-z"),
        new(json!({"agent": "x".repeat(300)}), 422, "invalid", "use 1 to 64 of a-z"),
        new(json!({"session_id": Uuid::now_v7()}), 404, "not_found", "create one with POST /api/sessions"),
        new(json!({"session_id": stage.closed}), 409, "conflict", "create a new one"),
        new(json!({"session_id": "../../etc"}), 422, "invalid", "session_id: UUID"),
        new(json!({"session_id": null}), 422, "invalid", "session_id"),
        new(json!({"prompt": ""}), 422, "invalid", "the prompt is empty"),
        new(json!({"prompt": " \t\n\u{a0}"}), 422, "invalid", "the prompt is empty"),
        new(json!({"prompt": "x".repeat(PROMPT_BYTES_MAX + 1)}), 422, "invalid", "larger than 1048576 bytes"),
        new(json!({"prompt": "x".repeat(3 << 20)}), 413, "invalid", "larger than 2 MiB"),
        new(json!({"prompt": "a\0b"}), 422, "invalid", "NUL character"),
        new(json!({"model": "a\0b"}), 422, "invalid", "NUL character"),
        new(json!({"mode_id": "a\0b"}), 422, "invalid", "NUL character"),
        new(json!({"feature_values": {"a": "\0"}}), 422, "invalid", "change it and send the request again"),
        new(json!({"prompt": 5}), 422, "invalid", "prompt: invalid type"),
        new(json!({"promt": "x"}), 422, "invalid", "unknown field `promt`"),
        new(json!({"priority": 101}), 422, "invalid", "between -100 and 100"),
        new(json!({"priority": -101}), 422, "invalid", "between -100 and 100"),
        new(json!({"priority": 40_000}), 422, "invalid", "priority"),
        new(json!({"run_at": "infinity"}), 422, "invalid", "run_at"),
        new(json!({"run_at": "tomorrow"}), 422, "invalid", "run_at"),
        new(json!({"run_at": "+12000-01-01T00:00:00Z"}), 422, "invalid", "between the years 2000 and 9999"),
        new(json!({"run_at": "1999-12-31T00:00:00Z"}), 422, "invalid", "between the years 2000 and 9999"),
        new(json!({"max_failures": 0}), 422, "invalid", "between 1 and 100"),
        post("/api/tasks", "{", 400, "invalid", "JSON"),
        post("/api/tasks", "", 400, "invalid", "JSON"),
        post("/api/tasks", r#"{"prompt": "\ud800"}"#, 400, "invalid", "JSON"),
        post("/api/tasks", "[]", 422, "invalid", "JSON"),
        Row {
            headers: Vec::new(),
            ..post("/api/tasks", stage.task(json!({})), 415, "invalid", "application/json")
        },
        keyed("", "invalid", "1 to 255 visible ASCII"),
        keyed(&"k".repeat(256), "invalid", "1 to 255 visible ASCII"),
        keyed("used", "idempotency_key_reused", "choose a new one"),
        get("/api/tasks?limit=0", 422, "invalid", "between 1 and 500"),
        get("/api/tasks?limit=-1", 422, "invalid", "between 1 and 500"),
        get("/api/tasks?limit=501", 422, "invalid", "between 1 and 500"),
        get("/api/tasks?limit=x", 400, "invalid", "limit"),
        get("/api/tasks?status=nonsense", 422, "invalid", "one of queued, dispatched"),
        get("/api/tasks?session=nonsense", 400, "invalid", "session"),
        get("/api/tasks?sesion=x", 400, "invalid", "unknown field"),
        get("/api/tasks/nonsense", 404, "not_found", "no UUID"),
        get("/api/tasks/..%2f..%2fetc%2fpasswd", 404, "not_found", "no UUID"),
        get("/api/tasks/%00", 404, "not_found", "no UUID"),
        get(&format!("/api/tasks/{}", Uuid::now_v7()), 404, "not_found", "no such task"),
        get(&format!("/api/tasks/{}/events", Uuid::now_v7()), 404, "not_found", "no such task"),
        post(&format!("/api/tasks/{}/cancel", Uuid::now_v7()), "{}", 404, "not_found", "no such task"),
        post(&format!("/api/tasks/{ended}/cancel"), "{}", 409, "conflict", "it is completed"),
        row(Method::DELETE, &format!("/api/tasks/{ended}"), "", 405, "method_not_allowed", "no DELETE"),
        get("/api/nonsense", 404, "not_found", "no such route"),
    ]
}

fn sessions(stage: &Stage) -> Vec<Row> {
    let on = |body: Value, says| post("/api/sessions", body.to_string(), 422, "invalid", says);
    let file = stage.node.project.join("a.txt");
    let project = stage.node.project.display();
    let (open, unknown) = (stage.open, Uuid::now_v7());
    let close = |body: &str, status, says| {
        post(&format!("/api/sessions/{open}/close"), body, status, "invalid", says)
    };
    let mut rows = vec![
        on(json!({}), "by path or by url"),
        on(json!({"path": project.to_string(), "url": "https://h/x"}), "by path or by url"),
        on(json!({"project_id": unknown, "url": "https://h/x"}), "not by two of them"),
        post(
            "/api/sessions",
            json!({"project_id": unknown}).to_string(),
            404,
            "not_found",
            "GET /api/projects lists",
        ),
        on(json!({"path": "relative"}), "absolute path"),
        on(json!({"path": ""}), "absolute path"),
        on(json!({"path": "--upload-pack=x"}), "absolute path"),
        on(json!({"path": "/does/not/exist"}), "check the path"),
        on(json!({"path": "/no\0thing"}), "check the path"),
        on(json!({"path": file}), "name the repository's folder"),
        on(json!({"path": file.join("below")}), "check the path"),
        on(json!({"path": "/proc"}), "run git init there"),
        on(json!({"path": project.to_string(), "title": "a\0b"}), "without NUL"),
        on(json!({"path": project.to_string(), "title": "x".repeat(1001)}), "at most 1000 bytes"),
        on(json!({"path": project.to_string(), "titel": "x"}), "unknown field"),
        post(
            "/api/projects",
            json!({"path": project.to_string(), "name": ""}).to_string(),
            422,
            "invalid",
            "1 to 200",
        ),
        post(
            "/api/projects",
            json!({"path": project.to_string(), "name": "a\0b"}).to_string(),
            422,
            "invalid",
            "NUL",
        ),
        get("/api/sessions?limit=0", 422, "invalid", "between 1 and 500"),
        get("/api/sessions?status=nonsense", 422, "invalid", "open or closed"),
        get(&format!("/api/sessions/{unknown}"), 404, "not_found", "no such session"),
        get("/api/sessions/..%2F..%2Fetc", 404, "not_found", "no UUID"),
        get(&format!("/api/sessions/{unknown}/events"), 404, "not_found", "no such session"),
        get(&format!("/api/sessions/{unknown}/changes"), 404, "not_found", "no such session"),
        get(&format!("/api/sessions/{open}/changes?status=nonsense"), 422, "invalid", "one of pending"),
        get(&format!("/api/sessions/{open}/files?since=ever"), 400, "invalid", "since"),
        get(&format!("/api/sessions/{open}/files?limit=0"), 422, "invalid", "between 1 and 500"),
        get(&format!("/api/sessions/{open}/lines"), 400, "invalid", "path"),
        get(&format!("/api/sessions/{open}/lines?path=../../etc"), 404, "not_found", "of that name"),
        get(&format!("/api/sessions/{open}/checkpoints?before=x"), 400, "invalid", "invalid digit"),
        post(
            &format!("/api/sessions/{open}/checkpoints/0/restore"),
            "{}",
            404,
            "not_found",
            "no such checkpoint",
        ),
        post(&format!("/api/sessions/{open}/changes/reject"), "{}", 422, "invalid", "say which"),
        post(
            &format!("/api/sessions/{open}/changes/reject"),
            r#"{"all": true, "files": ["a"]}"#,
            422,
            "invalid",
            "say which",
        ),
        post(&format!("/api/sessions/{unknown}/close"), "{}", 404, "not_found", "no such session"),
        post(&format!("/api/sessions/{}/close", stage.closed), "{}", 409, "conflict", "closed already"),
        close("{", 400, "JSON"),
        close("[true]", 422, "JSON object"),
        close(r#"{"force": 1}"#, 422, "force: invalid type"),
        close(r#"{"forse": true}"#, 422, "unknown field"),
        Row { headers: Vec::new(), ..close(r#"{"force": true}"#, 415, "application/json") },
        get("/api/permissions?limit=0", 422, "invalid", "between 1 and 500"),
        post(
            &format!("/api/permissions/{unknown}/answer"),
            r#"{"decision": "deny"}"#,
            404,
            "not_found",
            "no such permission",
        ),
        post(
            &format!("/api/permissions/{unknown}/answer"),
            r#"{"decision": "maybe"}"#,
            422,
            "invalid",
            "unknown variant",
        ),
    ];
    let rule = |body: Value, status, code, says| {
        let whole = json!({"session_id": open, "tool": "bash", "pattern": "ls", "decision": "allow"});
        let mut whole = whole.as_object().unwrap().clone();
        whole.extend(body.as_object().unwrap().clone());
        whole.retain(|_, value| !value.is_null());
        post("/api/permission-rules", Value::Object(whole).to_string(), status, code, says)
    };
    rows.extend([
        rule(json!({"decision": "maybe"}), 422, "invalid", "allow or deny"),
        rule(json!({"session_id": null}), 422, "invalid", "session_id, agent, or both"),
        rule(json!({"session_id": unknown}), 404, "not_found", "no such session"),
        rule(json!({"agent": "nobody"}), 404, "not_found", "no such agent"),
        rule(json!({"agent": "../x"}), 422, "invalid", "use 1 to 64 of a-z"),
        rule(json!({"workspace": "default"}), 422, "invalid", "leave out workspace"),
        rule(
            json!({"session_id": null, "agent": "scripted", "workspace": "x"}),
            404,
            "not_found",
            "no such workspace",
        ),
        rule(json!({"tool": ""}), 422, "invalid", "1 to 100"),
        rule(json!({"tool": "a\0b"}), 422, "invalid", "1 to 100"),
        rule(json!({"tool": "tool", "pattern": null}), 422, "invalid", "allow anything"),
        rule(json!({"pattern": null}), 422, "invalid", "needs a pattern"),
        rule(json!({"pattern": "ls; rm"}), 422, "invalid", "more than words"),
        rule(json!({"pattern": "ls\0"}), 422, "invalid", "more than words"),
        rule(json!({"pattern": "x".repeat(1001)}), 422, "invalid", "at most 1000"),
        rule(json!({"tool": "edit", "pattern": "../x"}), 422, "invalid", "within the worktree"),
        rule(json!({"tool": "edit", "pattern": "/etc/**"}), 422, "invalid", "within the worktree"),
        rule(json!({"tool": "edit", "pattern": null, "exact": true}), 422, "invalid", "exact goes with"),
        rule(json!({"patern": "x"}), 422, "invalid", "unknown field"),
        get("/api/permission-rules?limit=0", 422, "invalid", "between 1 and 500"),
        get("/api/permission-rules?session=x", 400, "invalid", "session"),
        Row {
            method: Method::DELETE,
            ..get(&format!("/api/permission-rules/{unknown}"), 404, "not_found", "no such rule")
        },
        Row { method: Method::DELETE, ..get("/api/permission-rules/x", 404, "not_found", "no UUID") },
    ]);
    for url in ["", "/srv/x", "h:x", "https://h/a b", "https://h/\0"] {
        rows.push(on(json!({"url": url}), "this is no clone URL"));
    }
    rows
}

/// S14 and S15: names that would be paths or options, wherever a name is taken and git is near.
fn names_for_git(stage: &Stage) -> Vec<Row> {
    let apply = |body: Value, status, code, says| {
        post(&format!("/api/sessions/{}/changes/apply", stage.open), body.to_string(), status, code, says)
    };
    let mut rows = vec![
        apply(json!({"branch": "good", "message": "a\0b"}), 422, "invalid", "without NUL"),
        apply(json!({"branch": "good", "message": "x".repeat(200_000)}), 422, "invalid", "at most 64 KiB"),
        apply(json!({"branch": "main"}), 409, "conflict", "cannot be made"),
        apply(json!({"branch": 5}), 422, "invalid", "branch: invalid type"),
    ];
    for branch in [
        "",
        "-x",
        "--upload-pack=x",
        "../../x",
        "a/../../x",
        "a$(id)",
        "refs/heads/x",
        "HEAD",
        "a\0b",
        "a.lock",
    ] {
        rows.push(apply(json!({"branch": branch}), 409, "conflict", "use letters, digits"));
    }
    rows.push(apply(json!({"branch": "x".repeat(300)}), 409, "conflict", "at most 200"));
    for url in
        ["--upload-pack=touch x", "-x", "ext::sh -c true", "ext::sh", "ssh://-oProxyCommand=x/y", "git@-h:x"]
    {
        rows.push(post(
            "/api/sessions",
            json!({"url": url}).to_string(),
            422,
            "invalid",
            "this is no clone URL",
        ));
    }
    rows
}

#[tokio::test(flavor = "multi_thread")]
async fn s14_s15_bad_input_at_the_api_is_refused_with_what_to_do_and_changes_nothing() {
    let stage = Stage::new().await;
    let (node, sql) = (&stage.node, stage.node.sql().await);
    let (rows, project) = (fingerprint(&sql).await, picture(&node.project));
    for Row { method, path, body, headers, status, code, says } in
        [tasks(&stage), sessions(&stage), names_for_git(&stage)].into_iter().flatten()
    {
        let shown = format!("{method} {path} {headers:?} {}", body.chars().take(200).collect::<String>());
        let request = headers
            .iter()
            .fold(node.request(method, &path), |request, (name, value)| request.header(*name, value));
        let response = request.body(body).send().await.unwrap_or_else(|error| panic!("{shown}: {error:?}"));
        let got = response.status().as_u16();
        let kind = response.headers().get("content-type").map(|kind| kind.to_str().unwrap().to_owned());
        let text = response.text().await.unwrap();
        assert_eq!((got, kind.as_deref()), (status, Some("application/problem+json")), "{shown}: {text}");
        let problem: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (problem["status"].as_u64(), problem["code"].as_str()),
            (Some(u64::from(status)), Some(code)),
            "{shown}"
        );
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(says), "{shown}: {detail}");
        assert!(!RAW.iter().any(|raw| detail.contains(raw)), "{shown}: {detail}");
        assert!(fingerprint(&sql).await == rows, "{shown} changed a row");
    }
    assert!(picture(&node.project) == project, "the project was touched");
    stage.works_on().await;
    stage.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_at_the_command_line_exits_with_its_code_and_changes_nothing() {
    let stage = Stage::new().await;
    let sql = stage.node.sql().await;
    let rows = fingerprint(&sql).await;
    let user = User::of(&stage.node.url).with("AGENTPOOL_TOKEN", &stage.node.token);
    let folder = user.home.path().to_owned();
    std::fs::write(folder.join("file"), "").unwrap();
    std::fs::create_dir(folder.join("empty")).unwrap();
    let (open, closed, unknown) =
        (stage.open.to_string(), stage.closed.to_string(), Uuid::now_v7().to_string());
    let (ended, project) = (stage.ended.id.to_string(), stage.node.project.display().to_string());
    let long = "x".repeat(PROMPT_BYTES_MAX + 1);
    let submit = |rest: &[&'static str]| [&["submit", "--session", "OPEN"], rest].concat();
    let table: Vec<(Vec<&str>, &str, i32, &str)> = vec![
        (submit(&["--agent", "nobody", "hi"]), "", 4, "it has scripted"),
        (submit(&["--agent", "../x", "hi"]), "", 4, "it has scripted"),
        (submit(&[""]), "", 2, "the prompt is empty"),
        (submit(&["-"]), " \n", 2, "the prompt is empty"),
        (submit(&["-"]), &long, 2, "longer than 1024 KiB"),
        (submit(&["-"]), "a\0b", 2, "NUL character"),
        (submit(&["--priority", "101", "hi"]), "", 2, "-100..=100"),
        (submit(&["--run-at", "infinity", "hi"]), "", 2, "is no time"),
        (submit(&["--run-at", "1999-01-01T00:00:00Z", "hi"]), "", 2, "between the years"),
        (submit(&["--idempotency-key", "used", "hi"]), "", 2, "choose a new one"),
        (submit(&["--idempotency-key", "", "hi"]), "", 2, "1 to 255"),
        (submit(&["--nonsense", "hi"]), "", 2, "--nonsense"),
        (vec!["submit", "--session", &closed, "hi"], "", 4, "create a new one"),
        (vec!["submit", "--session", &unknown, "hi"], "", 4, "no such session"),
        (vec!["submit", "--session", "../../etc", "hi"], "", 2, "--session"),
        (vec!["submit", "--project", "nothing", "hi"], "", 2, "a repository's folder or its clone URL"),
        (vec!["submit", "--project", "file", "hi"], "", 2, "a repository's folder or its clone URL"),
        (vec!["submit", "--project", "file/below", "hi"], "", 2, "a repository's folder or its clone URL"),
        (vec!["submit", "--project", "empty", "hi"], "", 2, "run git init there"),
        (vec!["submit", "--project", "ssh://-oProxyCommand=x/y", "hi"], "", 2, "this is no clone URL"),
        (vec!["submit", "--project", &project, "--idempotency-key", "k", "hi"], "", 2, "--session"),
        (vec!["submit", "hi"], "", 2, "is in no git repository"),
        (vec!["task", &unknown], "", 4, "no such task"),
        (vec!["task", "nonsense"], "", 2, "invalid value"),
        (vec!["cancel", &unknown], "", 4, "no such task"),
        (vec!["cancel", &ended], "", 4, "it is completed"),
        (vec!["tail", &unknown], "", 4, "neither a task nor a session"),
        (vec!["tasks", "--limit", "0"], "", 2, "1..=500"),
        (vec!["tasks", "--status", "nonsense"], "", 2, "possible values"),
        (vec!["session", "show", &unknown], "", 4, "no such session"),
        (vec!["session", "close", &unknown], "", 4, "no such session"),
        (vec!["session", "close", &closed], "", 4, "closed already"),
        (vec!["changes", &unknown], "", 4, "no such session"),
        (vec!["changes", "apply", &open, "--branch=-x"], "", 4, "use letters, digits"),
        (vec!["changes", "apply", &open, "--branch=main"], "", 4, "cannot be made"),
        (vec!["permission", "answer", &unknown, "allow"], "", 4, "no such permission"),
        (vec!["permission", "answer", &unknown, "maybe"], "", 2, "possible values"),
        (vec!["permission", "answer", &unknown, "deny", "--rule", "agent"], "", 2, "--rule goes with always"),
        (vec!["permission", "rule", "remove", &unknown], "", 4, "no such rule"),
        (vec!["permission", "rule", "add", "--session", &open, "--tool", "bash"], "", 2, "needs a pattern"),
        (vec!["permission", "rule", "add", "--agent", "nobody", "--tool", "edit"], "", 4, "no such agent"),
    ];
    for (args, stdin, code, says) in table {
        let args: Vec<&str> =
            args.into_iter().map(|word| if word == "OPEN" { open.as_str() } else { word }).collect();
        let said = user.run_with(stdin, &args).await;
        let shown = format!("{args:?}: {said:?}");
        assert_eq!(said.code, Some(code), "{shown}");
        assert!(said.stderr.contains(says), "{shown}");
        assert!(
            !RAW.iter().any(|raw| said.stderr.contains(raw)) && !said.stderr.contains("panicked"),
            "{shown}"
        );
        assert!(fingerprint(&sql).await == rows, "{shown} changed a row");
    }
    stage.works_on().await;
    stage.node.stop().await;
}

#[tokio::test]
async fn bad_input_by_plain_sql_is_refused_by_the_table_and_changes_nothing() {
    let queue = Queue::new().await;
    let (session, node) = (queue.session().await, queue.node().await);
    queue.put_all(session, &["waits"]).await;
    let client = queue.psql().await;
    client.batch_execute("SET ROLE agentpool_client").await.unwrap();
    let rows = fingerprint(&queue.sql).await;
    let task = |names: &str, values: &str| {
        format!(
            "INSERT INTO agentpool.tasks (session_id, agent, prompt{names}) VALUES ('{session}', 'a', 'hi'{values})"
        )
    };
    let insert = |session: &str, agent: &str, prompt: &str| {
        format!(
            "INSERT INTO agentpool.tasks (session_id, agent, prompt) VALUES ({session}, {agent}, {prompt})"
        )
    };
    let (here, unknown) = (format!("'{session}'"), format!("'{}'", Uuid::now_v7()));
    let table = [
        (insert(&here, "'nobody'", "'hi'"), "23503", "tasks_agent_fkey"),
        (insert(&here, "'../../etc'", "'hi'"), "23503", "tasks_agent_fkey"),
        (insert(&here, "NULL", "'hi'"), "23502", "agent"),
        (insert(&unknown, "'a'", "'hi'"), "23503", "tasks_session_id_fkey"),
        (insert("'../../etc'", "'a'", "'hi'"), "22P02", "invalid input syntax for type uuid"),
        (insert(&here, "'a'", "''"), "23514", "tasks_prompt_not_empty"),
        (insert(&here, "'a'", "E' \\t\\r\\n'"), "23514", "tasks_prompt_not_empty"),
        (insert(&here, "'a'", "NULL"), "23502", "prompt"),
        (insert(&here, "'a'", "repeat('x', 1048577)"), "23514", "tasks_prompt_max_1_mib"),
        (insert(&here, "'a'", "E'a\\x00b'"), "22021", "invalid byte sequence"),
        (task(", model", ", E'a\\x00b'"), "22021", "invalid byte sequence"),
        (task(", feature_values", r#", '{"a": "\u0000"}'"#), "22P05", "unsupported Unicode escape"),
        (task(", feature_values", ", '{'"), "22P02", "invalid input syntax for type json"),
        (task(", priority", ", 101"), "23514", "tasks_priority_check"),
        (task(", priority", ", 40000"), "22003", "out of range"),
        (task(", priority", ", 'high'"), "22P02", "invalid input syntax"),
        (task(", run_at", ", 'infinity'"), "23514", "tasks_run_at_in_range"),
        (task(", run_at", ", 'soon'"), "22007", "invalid input syntax"),
        (task(", max_failures", ", 0"), "23514", "tasks_max_failures_check"),
        (task(", promt", ", 'x'"), "42703", "promt"),
        (task(", status", ", 'completed'"), "42501", "permission denied"),
        ("DELETE FROM agentpool.tasks".to_owned(), "42501", "permission denied"),
        ("UPDATE agentpool.tasks SET prompt = 'x'".to_owned(), "42501", "permission denied"),
        (
            "UPDATE agentpool.tasks SET cancel_requested_at = 'infinity'".to_owned(),
            "23514",
            "tasks_cancel_requested_at_in_range",
        ),
    ];
    for (statement, code, says) in table {
        let error = client.batch_execute(&statement).await.expect_err(&statement);
        let error = error.as_db_error().unwrap_or_else(|| panic!("{statement}: {error:?}"));
        let words = format!("{} {}", error.message(), error.constraint().unwrap_or_default());
        assert_eq!(error.code().code(), code, "{}: {words}", &statement[..statement.len().min(200)]);
        assert!(words.contains(says), "{statement}: {words}");
        assert!(fingerprint(&queue.sql).await == rows, "{statement} changed a row");
    }
    // Who may do more is told what to do instead.
    let error = queue.sql.batch_execute("DELETE FROM agentpool.tasks").await.unwrap_err();
    assert!(error.as_db_error().unwrap().message().contains("cancel it"), "{error:?}");
    assert!(fingerprint(&queue.sql).await == rows);
    client.batch_execute(&task("", "")).await.unwrap();
    assert_eq!(node.drain().await, ["waits", "hi"]);
}
