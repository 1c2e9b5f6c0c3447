//! The opencode backend under faults of its server, its stream and its provider; rows F49 to F60 of the catalogue.

use crate::support::faulty_way::script;
use crate::support::leaks::{assert_nothing_left, is_alive, marked_processes, until};
use crate::support::meddler::Meddler;
use crate::support::opencode::{Running, Stage, Told, opencode_program, prompt};
use agentpool::backend::opencode::OpencodePermission;
use agentpool::backend::{AgentBackend, AgentSessionHandle, BackendError, BackendState, SessionOrigin};
use agentpool::domain::failure::FailureReason;
use agentpool::domain::permission::{PermissionAnswer, PermissionDecision};
use agentpool::domain::turn::{ToolStatus, TurnEnd, TurnEvent};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// Longer than anything real takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// A tool that leaves its session and its shell behind, and a shell that waits.
const SLEEPERS: &str = "TOOL:bash setsid sleep 471147 & setsid -f sleep 471147; sleep 471147";

fn completed(told: &Told) -> bool {
    matches!(told.end, Ok(TurnEnd::Completed { .. }))
}

fn text_came(event: &TurnEvent) -> Option<()> {
    matches!(event, TurnEvent::Text(_)).then_some(())
}

fn asked(event: &TurnEvent) -> Option<String> {
    if let TurnEvent::Permission(request) = event { Some(request.agent_request_id.clone()) } else { None }
}

fn a_tool_runs(event: &TurnEvent) -> Option<()> {
    matches!(event, TurnEvent::ToolUpdate(call) if call.status == ToolStatus::Running).then_some(())
}

fn allow(agent_request_id: String) -> PermissionAnswer {
    PermissionAnswer { agent_request_id, decision: PermissionDecision::AllowOnce }
}

fn pid(stage: &Stage) -> u32 {
    stage.backend.health().pids[0]
}

fn signal(pid: u32, signal: Signal) {
    kill(Pid::from_raw(pid.cast_signed()), signal).unwrap();
}

/// A turn whose tool has left all that may outlive it.
async fn sleepers(stage: &Stage, handle: &AgentSessionHandle) -> (Running, Vec<TurnEvent>) {
    let (mut seen, mut turn) = (Vec::new(), stage.begin(handle, prompt(SLEEPERS)));
    turn.wait_for(&mut seen, a_tool_runs).await;
    let sleeps = |pid: &u32| {
        fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.starts_with("sleep\0"))
    };
    let all_sleep = || marked_processes(&stage.mark).iter().filter(|pid| sleeps(pid)).count() == 3;
    until("three sleep", PATIENCE, all_sleep).await;
    (turn, seen)
}

async fn nothing_is_left(stage: &Stage) {
    until("nothing is left", PATIENCE, || marked_processes(&stage.mark).is_empty()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f49_f55_a_server_that_hangs_dies_or_is_disposed_of_takes_its_tools_with_it() {
    let stage = Stage::tuned(OpencodePermission::Allow, opencode_program().await, |config| {
        config.patience.probe_after = Duration::from_millis(500);
        config.patience.probe_deadline = Duration::from_secs(2);
    })
    .await;
    let handle = stage.open(&stage.worktree("w")).await;
    let resume = Some(handle.agent_session_id.as_str());

    // Stopped: the system still takes connections for it, and no process has ended.
    let (turn, seen) = sleepers(&stage, &handle).await;
    let frozen = pid(&stage);
    signal(frozen, Signal::SIGSTOP);
    std::net::TcpStream::connect(("127.0.0.1", handle.server_port.unwrap())).expect("it seems to be there");
    let told = turn.finish(seen).await;
    assert!(
        matches!(&told.end, Err(BackendError::Lost(why)) if why.contains("probes in a row unanswered")),
        "{:?}",
        told.end
    );
    nothing_is_left(&stage).await;

    // Killed.
    let again = stage.reopen(&handle.worktree, resume, Vec::new()).await.unwrap();
    assert_eq!(again.origin, SessionOrigin::Resumed);
    let (turn, seen) = sleepers(&stage, &again).await;
    assert_ne!(pid(&stage), frozen);
    signal(pid(&stage), Signal::SIGKILL);
    assert!(matches!(turn.finish(seen).await.end, Err(BackendError::Lost(_))));
    nothing_is_left(&stage).await;

    // Disposed of.
    let again = stage.reopen(&handle.worktree, resume, Vec::new()).await.unwrap();
    let (turn, seen) = sleepers(&stage, &again).await;
    stage.backend.dispose(Duration::from_secs(10)).await;
    assert_nothing_left(&stage.mark);
    assert!(matches!(turn.finish(seen).await.end, Err(BackendError::Lost(_))));
}

/// Every server is too large, and is looked at soon.
async fn swollen(permission: OpencodePermission, hold: Duration) -> Stage {
    Stage::tuned(permission, opencode_program().await, |config| {
        config.memory_soft_bytes = 1 << 20;
        config.patience.memory_look = Duration::from_secs(1);
        config.patience.hold = hold;
    })
    .await
}

async fn is_too_large(stage: &Stage) {
    let says = || stage.backend.health().detail.contains("more than memory_soft_mb (1)");
    until("it is too large", PATIENCE, says).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f54_f55_a_server_that_grew_too_large_is_replaced_between_turns_and_never_while_a_person_is_asked() {
    let stage = swollen(OpencodePermission::Ask, PATIENCE).await;
    let first = stage.open(&stage.worktree("one")).await;
    let (mut seen, mut turn) =
        (Vec::new(), stage.begin(&first, prompt("TOOL:bash setsid -f sleep 471147 >&- 2>&-")));
    let request = turn.wait_for(&mut seen, asked).await;
    is_too_large(&stage).await;
    let large = pid(&stage);

    let two = stage.worktree("two");
    let newcomer = async {
        let opened = stage.open(&two).await;
        assert!(!is_alive(large), "who comes meanwhile waits for the new server");
        opened
    };
    let answering = async {
        turn.answers.send(allow(request)).await.unwrap();
        turn.finish(seen).await
    };
    let (newcomer, told) = tokio::join!(newcomer, answering);
    assert!(completed(&told), "{told:?}");
    assert_eq!(newcomer.origin, SessionOrigin::New);
    until("it is gone too", PATIENCE, || stage.backend.health().state == BackendState::Cold).await;
    nothing_is_left(&stage).await;
    let detail = stage.backend.health().detail;
    assert!(detail.contains("ended for their size"), "{detail}");

    let again = stage.reopen(&first.worktree, Some(&first.agent_session_id), Vec::new()).await.unwrap();
    assert_eq!(again.origin, SessionOrigin::Resumed);
    let recalled = stage.turn(&again, "RECALL").await.text();
    assert!(recalled.contains("setsid -f sleep"), "{recalled}");
    stage.backend.dispose(Duration::from_secs(10)).await;
    assert_nothing_left(&stage.mark);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f54_a_turn_that_does_not_end_keeps_nobody_from_a_server_that_is_too_large() {
    let stage = swollen(OpencodePermission::Allow, Duration::from_secs(1)).await;
    let first = stage.open(&stage.worktree("one")).await;
    let (mut seen, mut turn) = (Vec::new(), stage.begin(&first, prompt("SLOW:6000")));
    turn.wait_for(&mut seen, text_came).await;
    is_too_large(&stage).await;
    let large = pid(&stage);
    let second = stage.open(&stage.worktree("two")).await;
    assert!(completed(&stage.turn(&second, "SAY: beside").await));
    assert_eq!(pid(&stage), large);
    assert!(!turn.task.is_finished());
    stage.backend.dispose(Duration::from_secs(10)).await;
    assert_nothing_left(&stage.mark);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f51_f53_f58_a_stream_that_stalls_garbles_or_tells_no_end_costs_a_turn_nothing() {
    let way = Meddler::to(&opencode_program().await).await;
    let stage = Stage::tuned(OpencodePermission::Allow, way.program.clone(), |config| {
        config.patience.stream_silence = Duration::from_secs(2);
    })
    .await;
    let handle = stage.open(&stage.worktree("w")).await;

    // The end of a turn is seen although nobody tells that the session is idle; twice, so that none is left over.
    way.withhold(&["session.idle", "session.status"]);
    for said in ["no idle", "no idle again"] {
        let told = stage.turn(&handle, &format!("SAY: {said}")).await;
        assert_eq!((told.text().as_str(), completed(&told)), (said, true), "{told:?}");
    }
    assert!(way.kept_back() > 0);
    way.withhold(&[]);

    // Unknown kinds, known kinds in unknown shapes, and what is no event: counted, and told on the health page.
    way.garble(true);
    let told = stage.turn(&handle, "THINK: hard\nSAY: through the noise").await;
    assert_eq!((told.text().as_str(), completed(&told)), ("through the noise", true), "{told:?}");
    way.garble(false);
    let detail = stage.backend.health().detail;
    assert!(detail.contains("events of unknown kinds"), "{detail}");

    // Silence on an open connection: it is opened again, and nothing is lost or told twice.
    let (mut seen, mut turn) = (Vec::new(), stage.begin(&handle, prompt("SLOW:40")));
    turn.wait_for(&mut seen, text_came).await;
    let before = way.streams();
    way.mute_streams();
    let told = turn.finish(seen).await;
    let whole = (0..40).map(|n| format!("tok{n}")).collect::<Vec<_>>().join(" ");
    assert_eq!((told.text().trim_end(), completed(&told)), (whole.as_str(), true), "{told:?}");
    assert!(way.streams() > before);
    assert_eq!(stage.backend.health().state, BackendState::Up, "its probes were answered");
    stage.backend.dispose(Duration::from_secs(10)).await;
    nothing_is_left(&stage).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f52_f57_a_slow_start_with_its_port_taken_is_waited_for_and_two_prompts_run_one_after_the_other() {
    // Taken by us, or by an opencode of another test, which may let it go again.
    let taken = std::net::TcpListener::bind(("127.0.0.1", 4096));
    let folder = tempfile::tempdir().unwrap();
    let go = folder.path().join("go");
    let opencode = opencode_program().await;
    let waits = format!(
        "while [ ! -e '{}' ]; do sleep 0.05; done; exec '{}' \"$@\"",
        go.display(),
        opencode.display()
    );
    let stage = Stage::with_program(OpencodePermission::Allow, script(folder.path(), &waits)).await;
    let (one, two) = (stage.worktree("one"), stage.worktree("two"));
    let goes = async {
        until("it starts", PATIENCE, || stage.backend.health().state == BackendState::Starting).await;
        fs::write(&go, "").unwrap();
    };
    let (one, two, ()) = tokio::join!(stage.open(&one), stage.open(&two), goes);
    assert_eq!(one.server_port, two.server_port, "one start for both");
    assert!(taken.is_err() || one.server_port != Some(4096));

    // Both at once into one conversation: opencode itself would fold them into one run.
    let (first, second) = tokio::join!(stage.turn(&one, "SLOW:5"), stage.turn(&one, "SLOW:6"));
    for (told, words) in [(&first, 5), (&second, 6)] {
        assert_eq!((told.text().split_whitespace().count(), completed(told)), (words, true), "{told:?}");
    }
    let runs: Vec<_> = stage.model.requests().into_iter().filter(|request| !request.side).collect();
    assert_eq!(runs.iter().map(|run| run.user_turns.len()).collect::<Vec<_>>(), [1, 2], "{runs:?}");
    stage.backend.dispose(Duration::from_secs(10)).await;
    assert_nothing_left(&stage.mark);
}

#[tokio::test]
async fn f52_a_server_that_never_gets_ready_is_given_up_by_name_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let silent = script(folder.path(), "echo 'no port in sight' >&2; sleep 471147 & wait");
    let stage = Stage::tuned(OpencodePermission::Allow, silent, |config| {
        config.start_deadline = Duration::from_secs(2);
    })
    .await;
    let error = stage.reopen(&stage.worktree("w"), None, Vec::new()).await.unwrap_err();
    let words = error.to_string();
    assert!(matches!(error, BackendError::Spawn(_)), "{words}");
    for expected in ["not ready within 2 s", "no port in sight", "agentpool doctor"] {
        assert!(words.contains(expected), "{words}");
    }
    assert_nothing_left(&stage.mark);
    stage.backend.dispose(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f60_a_provider_that_fails_for_ever_ends_the_turn_with_its_reason_and_its_retries_told() {
    let stage = Stage::tuned(OpencodePermission::Allow, opencode_program().await, |config| {
        config.patience.provider_tries_max = 2;
    })
    .await;
    let fails = async |name: &str, prompt: &str| {
        let handle = stage.open(&stage.worktree(name)).await;
        let told = stage.turn(&handle, prompt).await;
        // The conversation is free and usable afterwards.
        let next = stage.turn(&handle, "SAY: well again").await;
        assert_eq!((next.text().as_str(), completed(&next)), ("well again", true), "{next:?}");
        told
    };
    let (limited, broken, dropped) =
        tokio::join!(fails("limited", "FAIL:429"), fails("broken", "FAIL:500"), fails("dropped", "DROP"));
    let reasons = [
        (limited, FailureReason::RateLimited),
        (broken, FailureReason::ProviderError),
        (dropped, FailureReason::ProviderError),
    ];
    for (told, reason) in reasons {
        let Err(BackendError::Turn { reason: found, message, .. }) = &told.end else { panic!("{told:?}") };
        assert_eq!(*found, reason, "{message}");
        assert!(message.contains("failed 2 times in a row"), "{message}");
        let retries = told.events.iter().filter(|event| matches!(event, TurnEvent::Retry { .. })).count();
        assert!(retries >= 2, "{told:?}");
    }
    stage.backend.dispose(Duration::from_secs(10)).await;
    assert_nothing_left(&stage.mark);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_started_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let dying = script(folder.path(), "echo 'no licence here' >&2; exit 3");
    let missing = Path::new("/nowhere/opencode").to_owned();
    for (program, expected) in [
        (dying, ["exit code 3", "no licence here", "agentpool doctor"]),
        (missing, ["/nowhere/opencode", "was not found", "install it"]),
    ] {
        let stage = Stage::with_program(OpencodePermission::Allow, program).await;
        let error = stage.reopen(&stage.worktree("w"), None, Vec::new()).await.unwrap_err();
        let words = error.to_string();
        assert!(matches!(error, BackendError::Spawn(_)), "{words}");
        for expected in expected {
            assert!(words.contains(expected), "{words}");
        }
        stage.backend.dispose(Duration::from_secs(5)).await;
        nothing_is_left(&stage).await;
    }
}
