//! Client commands: exit codes, words, tokens, and what they send.

use super::*;

#[tokio::test]
async fn what_is_not_understood_exits_2_and_touches_nothing() {
    let user = User::of(&nobody());
    for args in [
        &[][..],
        &["frobnicate"],
        &["task"],
        &["task", "no-uuid"],
        &["tasks", "--status", "bogus"],
        &["submit"],
        &["submit", ""],
        &["submit", "--priority", "101", "x"],
        &["submit", "--run-at", "tomorrow", "x"],
        &["submit", "--idempotency-key", "k", "x"],
        &["submit", "--project", "no/such/folder", "x"],
        &["submit", "in no repository"],
        &["permission", "answer", &TASK.to_string()],
        &["permission", "answer", &TASK.to_string(), "allow", "--message", "x"],
        &["permission", "answer", &TASK.to_string(), "allow", "--answer", "x"],
        &["agents", "install", "left-pad"],
        &["changes"],
        &["tasks", "--url", "https:"],
        &["tasks", "--url", "http://ann:s3cret@127.0.0.1:1"],
    ] {
        let ended = user.run(args).await;
        assert_eq!(ended.code, Some(2), "{args:?}: {}", ended.stderr);
        assert!(!ended.stderr.is_empty() && ended.stdout.is_empty(), "{args:?}");
    }
    assert!(!user.data_dir().exists());
    let version = user.run(&["--version"]).await.expect(0).stdout;
    assert_eq!(version.trim(), format!("agentpool {}", env!("CARGO_PKG_VERSION")));
}

#[tokio::test]
async fn without_a_service_every_client_command_exits_69_and_says_how_to_start_one() {
    let url = nobody();
    let user = User::of(&url);
    let id = TASK.to_string();
    let session = SESSION.to_string();
    for args in [
        &["tasks"][..],
        &["task", &id],
        &["tail", &id],
        &["cancel", &id],
        &["sessions"],
        &["session", "show", &session],
        &["session", "close", &session],
        &["permissions"],
        &["permission", "answer", &id, "allow"],
        &["changes", &session],
        &["changes", "apply", &session],
        &["pool"],
        &["agents"],
        &["submit", "--session", &session, "x"],
    ] {
        let ended = user.run(args).await.expect(69);
        let hint = format!("no agentpool answers at {url}: start one with `agentpool serve`");
        assert!(ended.stderr.contains(&hint), "{args:?}: {}", ended.stderr);
    }
}

#[tokio::test]
async fn a_refusal_is_told_in_the_services_words_and_by_its_exit_code() {
    let router = Router::new().route(
        "/api/tasks/{id}",
        get(async |Path(id): Path<Uuid>| {
            let status = u16::try_from(id.as_u128()).unwrap();
            problem(status, &format!("because {status}\u{1b}[2J"))
        }),
    );
    let user = User::of(&serve(router).await);
    for (status, code) in [(400, 2), (422, 2), (404, 4), (409, 4), (503, 69), (500, 1), (418, 1)] {
        let ended = user.run(&["task", &Uuid::from_u128(status).to_string()]).await.expect(code);
        assert_eq!(ended.stderr, format!("error: because {status}\u{FFFD}[2J\n"));
    }
}

#[tokio::test]
async fn the_token_is_sent_and_its_absence_is_explained() {
    let router = Router::new().route(
        "/api/tasks",
        get(async |headers: HeaderMap| {
            let given = headers.get("authorization").and_then(|value| value.to_str().ok());
            if given == Some("Bearer agp_right") {
                Json(json!([])).into_response()
            } else {
                problem(401, "no")
            }
        }),
    );
    let url = serve(router).await;
    let user = User::of(&url);
    let said = user.run(&["tasks"]).await.expect(1).stderr;
    assert!(said.contains("without a token") && said.contains("--token-file"), "{said}");
    fs::create_dir(user.data_dir()).unwrap();
    fs::write(user.data_dir().join("token"), "agp_right\n").unwrap();
    user.run(&["tasks"]).await.expect(0);
    let said = User::of(&url).with("AGENTPOOL_TOKEN", "agp_wrong").run(&["tasks"]).await.expect(1).stderr;
    assert!(said.contains("AGENTPOOL_TOKEN") && !said.contains("agp_wrong"), "{said}");
    let file = user.data_dir().join("token");
    let file = file.to_str().unwrap();
    User::of(&url).run(&["tasks", "--token-file", file]).await.expect(0);
    let said = user.run(&["tasks", "--token-file", "missing"]).await.expect(1).stderr;
    assert!(said.contains("missing"), "{said}");
}

#[tokio::test]
async fn a_listing_shows_whole_ids_and_harmless_text_and_json_shows_all() {
    let user = User::of(&serve(service_with(|_| problem(500, "unused"))).await);
    let table = user.run(&["tasks"]).await.expect(0).stdout;
    assert!(table.contains(&TASK.to_string()) && table.contains(&SESSION.to_string()), "{table}");
    assert!(table.contains("do\u{FFFD}[2J it") && !table.contains('\u{1b}'), "{table}");
    assert_eq!(user.run(&["tasks", "--json"]).await.expect(0).json(), json!([task()]));
    assert_eq!(user.run(&["task", &TASK.to_string(), "--json"]).await.expect(0).json(), task());
    assert!(user.run(&["permissions"]).await.expect(0).stdout.contains("bash: ls"));
    let agents = user.run(&["agents", "--json"]).await.expect(0).json();
    assert_eq!(agents[0]["name"], "play");
}

#[tokio::test]
async fn what_answers_but_is_no_agentpool_is_said_to_be_so() {
    let router = Router::new().fallback(async || "<html>");
    let said = User::of(&serve(router).await).run(&["tasks"]).await.expect(1).stderr;
    assert!(said.contains("no agentpool of this version"), "{said}");
}

#[tokio::test]
async fn a_submit_sends_what_was_asked_and_makes_a_session_on_the_repository_around() {
    let bodies = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&bodies);
    let record = async move |request: Request| {
        let key = request.headers().get("idempotency-key").map(|value| value.to_str().unwrap().to_owned());
        let path = request.uri().path().to_owned();
        let body = axum::body::to_bytes(request.into_body(), usize::MAX).await.unwrap();
        heard.lock().unwrap().push((path.clone(), key, serde_json::from_slice::<Value>(&body).unwrap()));
        let session = json!({
            "id": SESSION, "project_id": SESSION, "project": "p", "title": "", "status": "open",
            "open_tasks": 0, "worktree": null, "agents": [], "created_at": AT, "closed_at": null,
        });
        Json(if path == "/api/sessions" { session } else { task() })
    };
    let router = service_with(|_| problem(500, "unused"));
    let router = Router::new()
        .route("/api/sessions", post(record.clone()))
        .route("/api/tasks", post(record))
        .fallback_service(router);
    let user = User::of(&serve(router).await);
    let repos = Repos::new();
    let deep = repos.user.join("deep");
    fs::create_dir(&deep).unwrap();
    let ended =
        user.run_in(&deep, &["submit", "fix\nit", "--model", "p/m", "--priority", "-5"]).await.expect(0);
    assert!(ended.stdout.contains(&TASK.to_string()) && ended.stdout.contains(&SESSION.to_string()));
    let session = SESSION.to_string();
    let again = ["submit", "--session", &session, "--idempotency-key", "k1", "go on"];
    let ended = user.run(&again).await.expect(0);
    assert!(ended.stderr.contains("submitted before"), "200 means known: {}", ended.stderr);
    let slip = user.run_in(&deep, &["submit", "--agent", "paly", "x"]).await.expect(4).stderr;
    assert!(slip.contains("it has play"), "{slip}");

    let root = fs::canonicalize(&repos.user).unwrap();
    let bodies = bodies.lock().unwrap();
    assert_eq!(bodies.len(), 3, "the slip made no session");
    assert_eq!(bodies[0].2, json!({"path": root, "title": "fix it"}));
    let wanted = json!({
        "session_id": SESSION, "agent": "play", "prompt": "fix\nit", "model": "p/m", "priority": -5,
    });
    assert_eq!(bodies[1].2, wanted);
    assert_eq!(bodies[2].1.as_deref(), Some("k1"));
}

/// `agentpool tasks | head -1` must not end in a panic.
#[tokio::test]
async fn a_reader_that_has_seen_enough_is_no_error() {
    let gate = Arc::new(tokio::sync::Notify::new());
    let opened = Arc::clone(&gate);
    let answer = async move || {
        opened.notified().await;
        Json(json!([task()]))
    };
    let user = User::of(&serve(Router::new().route("/api/tasks", get(answer))).await);
    let mut listing = user.start(&["tasks"]);
    listing.close_stdout();
    gate.notify_one();
    let ended = listing.end().await.expect(0);
    assert_eq!(ended.stderr, "");
}

#[tokio::test]
async fn with_json_an_error_is_the_problem_itself_on_one_line_of_stderr_and_the_exit_code_stays() {
    let whole = json!({
        "type": "urn:agentpool:problem:worktree_at_risk", "title": "Conflict", "status": 409, "code": "worktree_at_risk",
        "detail": "it would be\u{1b} lost", "risk": ["a.txt"], "request_id": "r-1",
    });
    let answer = whole.clone();
    let router = Router::new()
        .route("/api/tasks/{id}", get(async move || (StatusCode::CONFLICT, Json(answer.clone()))))
        .route("/api/sessions", get(async || (StatusCode::BAD_GATEWAY, "<html>")))
        .route("/api/pool", get(async || "<html>"))
        .route(
            "/api/permissions",
            get(async || {
                (
                    StatusCode::UNAUTHORIZED,
                    Json(json!({"status": 401, "code": "x", "detail": "no", "request_id": "r-2"})),
                )
            }),
        );
    let url = serve(router).await;
    let user = User::of(&url);
    let problem = |ended: &Ended| -> Value {
        assert_eq!(ended.stdout, "", "{ended:?}");
        assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
        assert!(!ended.stderr.contains('\u{1b}'), "{ended:?}");
        serde_json::from_str(&ended.stderr).unwrap_or_else(|error| panic!("{error}: {ended:?}"))
    };
    let id = TASK.to_string();
    let told = problem(&user.run(&["task", &id, "--json"]).await.expect(4));
    assert_eq!(told, whole, "as the API gave it");
    let told = problem(&user.run(&["permissions", "--json"]).await.expect(1));
    assert_eq!((&told["code"], &told["request_id"]), (&json!("unauthorized"), &json!("r-2")));
    assert!(told["detail"].as_str().unwrap().contains("--token-file"), "{told}");
    let nobody = User::of(&nobody());
    for (user, args, exit, status, code) in [
        (&user, &["sessions", "--json"][..], 1, 502, "refused"),
        (&user, &["pool", "--json"], 1, 502, "foreign"),
        (&nobody, &["tasks", "--json"], 69, 503, "unreachable"),
        (&nobody, &["tasks", "--json", "--status", "bogus"], 2, 400, "usage"),
        (&nobody, &["frobnicate", "--json"], 2, 400, "usage"),
        (&nobody, &["submit", "--json", ""], 2, 400, "usage"),
        (&nobody, &["tasks", "--json", "--token-file", "missing"], 1, 500, "unreadable_file"),
        (&nobody, &["tasks", "--json", "--config", "missing"], 78, 500, "configuration"),
    ] {
        let told = problem(&user.run(args).await.expect(exit));
        assert_eq!((&told["status"], &told["code"]), (&json!(status), &json!(code)), "{args:?}: {told}");
        assert_eq!(told["type"], format!("urn:agentpool:problem:{code}"), "{told}");
        assert!(!told["detail"].as_str().unwrap().is_empty() && !told["title"].as_str().unwrap().is_empty());
    }
    // What comes after `--` is a prompt, and without the flag the words are for people.
    let words = nobody.run(&["submit", "--session", &SESSION.to_string(), "--", "--json"]).await.expect(69);
    assert!(words.stderr.starts_with("error: no agentpool answers"), "{words:?}");
    nobody.run(&["tasks", "--json", "--help"]).await.expect(0);
}
