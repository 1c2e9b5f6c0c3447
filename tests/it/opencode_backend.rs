//! The opencode backend against the real opencode: what it promises, and what it leaves behind.

use crate::support::faulty_way::{FaultyWay, script};
use crate::support::leaks::{assert_nothing_left, marked_processes, until};
use crate::support::opencode::{Stage, opencode_program, prompt};
use agentpool::backend::opencode::OpencodePermission;
use agentpool::backend::{AgentBackend, BackendError, BackendState, Interrupted, Occasion, SessionOrigin};
use agentpool::domain::failure::FailureReason;
use agentpool::domain::permission::{
    PermissionAnswer, PermissionDecision, PermissionKind, PermissionRequest,
};
use agentpool::domain::turn::{Stop, StopCause, StopForce, TurnEnd, TurnEvent};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::time::{Duration, Instant};

const CANCEL: Stop = Stop { cause: StopCause::UserCancel, force: StopForce::Ask };

fn asked(event: &TurnEvent) -> Option<PermissionRequest> {
    if let TurnEvent::Permission(request) = event { Some(request.clone()) } else { None }
}

fn first_text(event: &TurnEvent) -> Option<()> {
    matches!(event, TurnEvent::Text(_)).then_some(())
}

fn answer(request: &PermissionRequest, decision: PermissionDecision) -> PermissionAnswer {
    PermissionAnswer { agent_request_id: request.agent_request_id.clone(), decision }
}

fn completed(end: &Result<TurnEnd, BackendError>) -> bool {
    matches!(end, Ok(TurnEnd::Completed { .. }))
}

fn notices(events: &[TurnEvent]) -> Vec<&str> {
    let notices = events.iter().filter_map(|event| match event {
        TurnEvent::Notice(notice) => Some(notice.as_str()),
        _ => None,
    });
    notices.collect()
}

/// What was said, however it was cut into pieces. How many tokens it took is not compared: that they are told once is.
fn joined(events: &[TurnEvent]) -> Vec<(&'static str, String)> {
    let mut said: Vec<(&str, String)> = Vec::new();
    for event in events {
        let (kind, text) = match event {
            TurnEvent::Text(text) => ("text", text.as_str()),
            TurnEvent::Reasoning(text) => ("reasoning", text.as_str()),
            TurnEvent::Usage(_) => ("usage", ""),
            _ => ("another", ""),
        };
        match said.last_mut().filter(|last| last.0 == kind && !text.is_empty()) {
            Some(last) => last.1.push_str(text),
            None => said.push((kind, text.to_owned())),
        }
    }
    said.into_iter().map(|(kind, text)| (kind, text.trim_end().to_owned())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_server_serves_many_worktrees_and_leaves_nothing() {
    let stage = Stage::new(OpencodePermission::Allow).await;
    assert_eq!(stage.backend.health().state, BackendState::Cold);
    let (plain, odd) = (stage.worktree("plain"), stage.worktree("a b+ü%&=c"));
    let (plain, odd) = tokio::join!(stage.open(&plain), stage.open(&odd));
    assert_eq!(plain.server_port, odd.server_port);
    let (one, two) = tokio::join!(stage.turn(&plain, "SLOW:8"), stage.turn(&odd, "SAY: second"));
    assert!(completed(&one.end) && completed(&two.end), "{one:?} {two:?}");
    assert_eq!(
        (one.text().trim_end(), two.text().as_str()),
        ("tok0 tok1 tok2 tok3 tok4 tok5 tok6 tok7", "second")
    );
    let write = stage.turn(&odd, "TOOL:write made.txt here").await;
    assert!(odd.worktree.join("made.txt").exists(), "{write:?}");
    let Ok(TurnEnd::Completed { stop_reason, usage }) = write.end else { panic!("{write:?}") };
    assert_eq!(stop_reason, "stop");
    assert!(usage.input_tokens > 0 && usage.output_tokens > 0);
    let health = stage.backend.health();
    assert_eq!((health.state, health.pids.len()), (BackendState::Up, 1), "{health:?}");

    let begun = Instant::now();
    for _ in 0..10 {
        assert!(completed(&stage.turn(&plain, "hello").await.end));
    }
    eprintln!("warm turn: {:?}", begun.elapsed() / 10);

    // Released, the conversation stays; closed, it is let go.
    stage.backend.release(&plain).await.unwrap();
    let again = stage.reopen(&plain.worktree, Some(&plain.agent_session_id), Vec::new()).await.unwrap();
    assert_eq!(again.origin, SessionOrigin::Resumed);
    assert!(stage.turn(&again, "RECALL").await.text().contains("SLOW:8"));
    stage.backend.close_session(&again).await.unwrap();
    let other = stage.reopen(&plain.worktree, Some("ses_doesnotexist"), Vec::new()).await.unwrap();
    assert_eq!(other.origin, SessionOrigin::NewInsteadOfResumed);

    stage.backend.dispose(Duration::from_secs(10)).await;
    assert_nothing_left(&stage.mark);
    assert!(matches!(stage.reopen(&plain.worktree, None, Vec::new()).await, Err(BackendError::Lost(_))));
}

/// A server that does not run is not started for it; one that does has the instance before anybody asks for a conversation.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_instance_of_a_new_worktree_is_made_ahead() {
    let stage = Stage::new(OpencodePermission::Allow).await;
    let (first, second) = (stage.worktree("first"), stage.worktree("second"));
    stage.backend.prewarm(&first, Occasion::SessionMade).await;
    assert_eq!(stage.backend.health().state, BackendState::Cold);
    stage.open(&first).await;
    stage.backend.prewarm(&second, Occasion::TurnBegins).await;
    let logs = stage.folder.path().join("home/.local/share/opencode/log");
    let logs =
        std::fs::read_dir(logs).unwrap().map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap());
    let made = format!("message=\"creating instance\" directory={}", second.display());
    assert!(logs.collect::<String>().contains(&made), "opencode's log says nothing of it");
    let handle = stage.open(&second).await;
    assert_eq!(stage.turn(&handle, "SAY: fine").await.text(), "fine");
    stage.backend.dispose(Duration::from_secs(10)).await;
    assert_nothing_left(&stage.mark);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_is_asked_and_the_answer_arrives() {
    let stage = Stage::new(OpencodePermission::Ask).await;
    let handle = stage.open(&stage.worktree("w")).await;

    let mut seen = Vec::new();
    let mut turn = stage.begin(&handle, prompt("TOOL:bash echo yes > yes.txt"));
    let request = turn.wait_for(&mut seen, asked).await;
    assert_eq!((request.kind, request.title.as_str()), (PermissionKind::Tool, "bash: echo yes > yes.txt"));
    turn.answers.send(answer(&request, PermissionDecision::AllowOnce)).await.unwrap();
    assert!(completed(&turn.finish(seen).await.end));
    assert!(handle.worktree.join("yes.txt").exists());

    let mut seen = Vec::new();
    let mut turn = stage.begin(&handle, prompt("TOOL:bash echo no > no.txt"));
    let request = turn.wait_for(&mut seen, asked).await;
    turn.answers.send(answer(&request, PermissionDecision::Deny { message: None })).await.unwrap();
    let told = turn.finish(seen).await;
    assert!(completed(&told.end) && told.text().contains("not permitted"), "{told:?}");
    assert!(!handle.worktree.join("no.txt").exists());

    let mut seen = Vec::new();
    let question = r#"TOOL:raw question {"questions":[{"question":"Which?","header":"H","options":[{"label":"A","description":"a"}]}]}"#;
    let mut turn = stage.begin(&handle, prompt(question));
    let request = turn.wait_for(&mut seen, asked).await;
    assert_eq!((request.kind, request.title.as_str()), (PermissionKind::Question, "Which?"));
    let answers = PermissionDecision::Answers(vec![vec!["free words".into()]]);
    turn.answers.send(answer(&request, answers)).await.unwrap();
    let told = turn.finish(seen).await;
    assert!(completed(&told.end) && told.text().contains("free words"), "{told:?}");

    // A question that is only let through, and one that is refused: neither hangs.
    for decision in [PermissionDecision::AllowOnce, PermissionDecision::Deny { message: None }] {
        let (mut seen, mut turn) = (Vec::new(), stage.begin(&handle, prompt(question)));
        let request = turn.wait_for(&mut seen, asked).await;
        turn.answers.send(answer(&request, decision)).await.unwrap();
        let told = turn.finish(seen).await;
        assert!(completed(&told.end), "{told:?}");
    }

    // Nobody else would answer for a subagent.
    let mut seen = Vec::new();
    let task = r#"TOOL:raw task {"description":"d","prompt":"TOOL:bash echo sub > sub.txt","subagent_type":"general"}"#;
    let mut turn = stage.begin(&handle, prompt(task));
    let request = turn.wait_for(&mut seen, asked).await;
    turn.answers.send(answer(&request, PermissionDecision::AllowOnce)).await.unwrap();
    let told = turn.finish(seen).await;
    assert!(completed(&told.end) && handle.worktree.join("sub.txt").exists(), "{told:?}");

    let told = stage.turn(&handle, "TOOL:plan").await;
    assert!(
        told.events.iter().any(|event| matches!(event, TurnEvent::Plan(lines) if !lines.is_empty())),
        "{told:?}"
    );
    stage.backend.dispose(Duration::from_secs(10)).await;
    assert_nothing_left(&stage.mark);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_or_abandoned_turn_never_ends_the_next_one() {
    let stage = Stage::new(OpencodePermission::Allow).await;
    let handle = stage.open(&stage.worktree("w")).await;
    for round in 0..3 {
        let mut seen = Vec::new();
        let mut turn = stage.begin(&handle, prompt("SLOW:600"));
        turn.wait_for(&mut seen, first_text).await;
        let asked_at = Instant::now();
        turn.stop.send_replace(Some(CANCEL));
        let told = turn.finish(seen).await;
        assert!(matches!(told.end, Ok(TurnEnd::Cancelled)), "{told:?}");
        assert!(asked_at.elapsed() < Duration::from_secs(5), "{:?}", asked_at.elapsed());
        let said = format!("after {round}");
        let told = stage.turn(&handle, &format!("SAY: {said}")).await;
        assert_eq!((told.text(), completed(&told.end)), (said, true), "{told:?}");
    }
    // Stopped before it could begin.
    let turn = stage.begin(&handle, prompt("SLOW:600"));
    turn.stop.send_replace(Some(CANCEL));
    assert!(matches!(turn.finish(Vec::new()).await.end, Ok(TurnEnd::Cancelled)));
    // A tool at work is stopped too, and with it what it started.
    let mut seen = Vec::new();
    let mut turn = stage.begin(&handle, prompt("TOOL:bash sleep 4711"));
    turn.wait_for(&mut seen, |event| matches!(event, TurnEvent::ToolUpdate(_)).then_some(())).await;
    turn.stop.send_replace(Some(CANCEL));
    assert!(matches!(turn.finish(seen).await.end, Ok(TurnEnd::Cancelled)));
    // Dropped: the backend stops it by itself, and the next turn waits for that.
    let mut seen = Vec::new();
    let mut turn = stage.begin(&handle, prompt("SLOW:600"));
    turn.wait_for(&mut seen, first_text).await;
    turn.task.abort();
    let told = stage.turn(&handle, "SAY: free again").await;
    assert_eq!((told.text().as_str(), completed(&told.end)), ("free again", true), "{told:?}");
    stage.backend.dispose(Duration::from_secs(10)).await;
    assert_nothing_left(&stage.mark);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f48_a_killed_server_fails_its_turns_at_once_and_the_conversation_goes_on() {
    let stage = Stage::new(OpencodePermission::Allow).await;
    let handle = stage.open(&stage.worktree("w")).await;
    let whole = prompt("SAY: remember the heron");
    let whole_turn = whole.turn;
    let told = stage.begin(&handle, whole).finish(Vec::new()).await;
    assert!(completed(&told.end));
    // A turn whose end was never reported: it is finished from the conversation, not run again.
    let resume = Some(handle.agent_session_id.as_str());
    let found = stage.reopen(&handle.worktree, resume, vec![whole_turn]).await.unwrap();
    let Interrupted::Completed { output, usage, stop_reason } = &found.interrupted else {
        panic!("{found:?}")
    };
    assert_eq!((output.as_str(), stop_reason.as_str()), ("remember the heron", "stop"));
    assert!(usage.input_tokens > 0);
    assert_eq!(found.origin, SessionOrigin::Reused);

    let cut = prompt("SLOW:600");
    let cut_turn = cut.turn;
    let mut seen = Vec::new();
    let mut turn = stage.begin(&handle, cut);
    turn.wait_for(&mut seen, first_text).await;
    let pid = stage.backend.health().pids[0];
    let killed_at = Instant::now();
    kill(Pid::from_raw(i32::try_from(pid).unwrap()), Signal::SIGKILL).unwrap();
    let told = turn.finish(seen).await;
    assert!(matches!(&told.end, Err(BackendError::Lost(why)) if why.contains("signal 9")), "{:?}", told.end);
    assert!(killed_at.elapsed() < Duration::from_secs(2), "{:?}", killed_at.elapsed());

    let again = stage.reopen(&handle.worktree, resume, vec![cut_turn]).await.unwrap();
    assert_eq!((again.origin, &again.interrupted), (SessionOrigin::Resumed, &Interrupted::CutBack));
    assert_ne!(again.agent_session_id, handle.agent_session_id, "it ends before the interrupted turn");
    let recalled = stage.turn(&again, "RECALL").await.text();
    assert!(recalled.contains("heron") && !recalled.contains("SLOW"), "{recalled}");
    stage.backend.dispose(Duration::from_secs(10)).await;
    assert_nothing_left(&stage.mark);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f60_what_fails_has_a_reason_and_what_is_not_offered_is_said() {
    let stage = Stage::new(OpencodePermission::Allow).await;
    let handle = stage.open(&stage.worktree("w")).await;
    for (code, reason) in [("400", FailureReason::BadRequest), ("401", FailureReason::AuthRequired)] {
        let told = stage.turn(&handle, &format!("FAIL:{code}")).await;
        assert_eq!(told.end.as_ref().map_err(BackendError::reason), Err(reason), "{told:?}");
    }
    let told = stage.turn(&handle, "FAIL:429x1").await;
    assert!(told.events.iter().any(|event| matches!(event, TurnEvent::Retry { attempt: 1, .. })), "{told:?}");
    assert_eq!(told.text(), "echo: FAIL:429x1");
    let told = stage.turn(&handle, "LEN").await;
    assert!(
        matches!(&told.end, Ok(TurnEnd::Completed { stop_reason, .. }) if stop_reason == "length"),
        "{told:?}"
    );

    let mut wishes = prompt("SAY: still runs");
    wishes.settings.model = Some("nope/no".into());
    wishes.settings.mode_id = Some("nonsense".into());
    wishes.settings.thinking_option_id = Some("high".into());
    let told = stage.begin(&handle, wishes).finish(Vec::new()).await;
    assert_eq!(told.text(), "still runs");
    let notices = notices(&told.events);
    assert!(notices.len() == 3 && notices[0].contains("local/echo is used"), "{notices:?}");

    // A model asked for once does not stick.
    let mut other = prompt("SAY: other");
    other.settings.model = Some("local/other".into());
    assert!(completed(&stage.begin(&handle, other).finish(Vec::new()).await.end));
    assert!(completed(&stage.turn(&handle, "SAY: default").await.end));
    let models = stage.model.requests();
    assert_eq!(models.last().map(|request| request.model.as_str()), Some("echo"));
    assert!(models.iter().any(|request| request.model == "other"));
    stage.backend.dispose(Duration::from_secs(10)).await;
    assert_nothing_left(&stage.mark);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_is_no_opencode_is_refused_and_the_circuit_opens() {
    let stage = Stage::with_program(OpencodePermission::Allow, "/bin/false".into()).await;
    let worktree = stage.worktree("w");
    for _ in 0..5 {
        let error = stage.reopen(&worktree, None, Vec::new()).await.unwrap_err();
        assert!(matches!(error, BackendError::Spawn(_)), "{error}");
    }
    assert_eq!(stage.backend.health().state, BackendState::CircuitOpen);
    let begun = Instant::now();
    let error = stage.reopen(&worktree, None, Vec::new()).await.unwrap_err();
    assert!(error.to_string().contains("failed 5 times"), "{error}");
    assert!(begun.elapsed() < Duration::from_millis(200), "nothing was started");
    stage.backend.dispose(Duration::from_secs(5)).await;
    until("the shims are collected", Duration::from_secs(10), || stage.shims.live() == 0).await;
    assert_nothing_left(&stage.mark);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f50_a_stream_that_breaks_again_and_again_loses_and_repeats_nothing() {
    let way = FaultyWay::to(&opencode_program().await).await;
    let stage = Stage::with_program(OpencodePermission::Ask, way.program.clone()).await;
    let handle = stage.open(&stage.worktree("w")).await;

    // Cut while the answer streams: pieces fall into each gap, and others come after it.
    let mut seen = Vec::new();
    let mut turn = stage.begin(&handle, prompt("THINK: about it\nSLOW:40"));
    turn.wait_for(&mut seen, first_text).await;
    for _ in 0..6 {
        let before = way.streams();
        way.cut_streams();
        until("the stream is opened again", Duration::from_secs(10), || way.streams() > before).await;
    }
    let told = turn.finish(seen).await;
    let whole = (0..40).map(|n| format!("tok{n}")).collect::<Vec<_>>().join(" ");
    assert_eq!(told.text().trim_end(), whole, "{told:?}");
    assert!(completed(&told.end), "{told:?}");
    let undisturbed = stage.open(&stage.worktree("v")).await;
    let undisturbed = stage.turn(&undisturbed, "THINK: about it\nSLOW:40").await;
    assert_eq!(joined(&told.events), joined(&undisturbed.events));

    // A question that was asked once is not asked again, and is answered although the stream broke in between.
    let mut seen = Vec::new();
    let mut turn = stage.begin(&handle, prompt("TOOL:bash echo a > a.txt"));
    let request = turn.wait_for(&mut seen, asked).await;
    let before = way.streams();
    way.cut_streams();
    until("the stream is opened again", Duration::from_secs(10), || way.streams() > before).await;
    turn.answers.send(answer(&request, PermissionDecision::AllowOnce)).await.unwrap();
    let told = turn.finish(seen).await;
    assert!(completed(&told.end), "{told:?}");
    assert_eq!(told.events.iter().filter(|event| asked(event).is_some()).count(), 1, "{told:?}");

    // A prompt whose answer was lost is sent again and runs once.
    let requests_before = stage.model.requests().len();
    let prompts_before = way.prompts();
    way.lose_the_next_answer_to_a_prompt();
    let told = stage.turn(&handle, "SAY: only once").await;
    assert_eq!((told.text().as_str(), completed(&told.end)), ("only once", true), "{told:?}");
    assert_eq!(way.prompts() - prompts_before, 2);
    let requests = stage.model.requests();
    let runs = requests[requests_before..].iter().filter(|request| !request.side).collect::<Vec<_>>();
    assert_eq!(runs.len(), 1);
    assert_eq!(runs[0].user_turns.iter().filter(|turn| turn.contains("only once")).count(), 1);
    stage.backend.dispose(Duration::from_secs(10)).await;
    assert_nothing_left(&stage.mark);
}

/// A server that calls itself opencode of that version and asks nobody for a password.
async fn imposter(version: &'static str) -> (tempfile::TempDir, std::path::PathBuf) {
    let health = axum::Json(serde_json::json!({ "healthy": true, "version": version }));
    let app = axum::Router::new().route("/global/health", axum::routing::get(move || async move { health }));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move { axum::serve(listener, app).await });
    let folder = tempfile::tempdir().unwrap();
    let line = format!("opencode server listening on http://127.0.0.1:{port}");
    let program = script(folder.path(), &format!("echo '{line}'; exec sleep 1000"));
    (folder, program)
}

#[tokio::test]
async fn f53_an_unsupported_version_or_an_open_server_is_refused_by_name() {
    for (version, expected) in [("2.0.1", "this is opencode 2.0.1"), ("1.18.33", "in place of 401")] {
        let (_folder, program) = imposter(version).await;
        let stage = Stage::with_program(OpencodePermission::Allow, program).await;
        let error = stage.reopen(&stage.worktree("w"), None, Vec::new()).await.unwrap_err();
        assert!(matches!(&error, BackendError::Incompatible(why) if why.contains(expected)), "{error}");
        assert_nothing_left(&stage.mark);
        stage.backend.dispose(Duration::from_secs(5)).await;
    }
}

#[tokio::test]
async fn a_server_that_is_disposed_while_it_starts_is_gone_afterwards() {
    let folder = tempfile::tempdir().unwrap();
    let silent = script(folder.path(), "sleep 1000 & wait");
    let stage = Stage::with_program(OpencodePermission::Allow, silent).await;
    let worktree = stage.worktree("w");
    let opening = stage.reopen(&worktree, None, Vec::new());
    let disposing = async {
        until("it starts", Duration::from_secs(20), || marked_processes(&stage.mark).len() >= 2).await;
        assert_eq!(stage.backend.health().state, BackendState::Starting);
        stage.backend.dispose(Duration::from_secs(10)).await;
        assert_nothing_left(&stage.mark);
    };
    let (opened, ()) = tokio::join!(opening, disposing);
    assert!(matches!(opened, Err(BackendError::Spawn(_) | BackendError::Lost(_))), "{opened:?}");
}
