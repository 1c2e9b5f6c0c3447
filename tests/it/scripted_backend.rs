//! What the scripted backend can do beyond the promises of every backend: fail, crash and hang on demand.

use agentpool::backend::scripted::{Scenarios, ScriptedBackend, ScriptedConfig};
use agentpool::backend::{
    AgentBackend, AgentSessionHandle, BackendError, EnsureSession, Interrupted, Prompt, SessionOrigin, TurnIo,
};
use agentpool::domain::agent::AgentName;
use agentpool::domain::failure::FailureReason;
use agentpool::domain::ids::{Fence, SessionId, TaskId};
use agentpool::domain::permission::{PermissionAnswer, PermissionDecision};
use agentpool::domain::session::SessionKey;
use agentpool::domain::task::TaskSettings;
use agentpool::domain::turn::{Stop, StopCause, StopForce, TurnEnd, TurnEvent, TurnRef};
use std::path::Path;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use uuid::Uuid;

/// Longest turn of these tests, on whichever clock they run.
const DEADLINE: Duration = Duration::from_secs(120);

fn backend(state: Option<&Path>) -> ScriptedBackend {
    let state = state.map(Path::to_owned);
    ScriptedBackend::new(ScriptedConfig { scenarios: Scenarios::built_in(), state })
}

fn key() -> SessionKey {
    SessionKey { session: SessionId(Uuid::now_v7()), agent: AgentName::new("scripted").unwrap() }
}

async fn ensure(
    backend: &ScriptedBackend,
    key: &SessionKey,
    resume: Option<&AgentSessionHandle>,
    interrupted: &[TurnRef],
) -> AgentSessionHandle {
    let options = EnsureSession {
        worktree: std::env::temp_dir(),
        title: String::new(),
        resume: resume.map(|handle| handle.agent_session_id.clone()),
        interrupted: interrupted.to_vec(),
    };
    backend.ensure_session(key, &options).await.unwrap()
}

fn turn(task: TaskId, fence: i64) -> TurnRef {
    TurnRef { task, fence: Fence(fence) }
}

fn task() -> TaskId {
    TaskId(Uuid::now_v7())
}

/// Our ends of a turn's channels.
struct Caller {
    events: mpsc::Receiver<TurnEvent>,
    stop: watch::Sender<Option<Stop>>,
    answers: mpsc::Sender<PermissionAnswer>,
}

fn channels() -> (TurnIo, Caller) {
    let (events, events_out) = mpsc::channel(4_096);
    let (stop_in, stop) = watch::channel(None);
    let (answers_in, answers) = mpsc::channel(8);
    (TurnIo { events, stop, answers }, Caller { events: events_out, stop: stop_in, answers: answers_in })
}

impl Caller {
    /// The whole text of a turn whose every question is answered by yes.
    async fn allow_everything(mut self) -> String {
        let mut text = String::new();
        while let Some(event) = self.events.recv().await {
            match event {
                TurnEvent::Text(said) => text += &said,
                TurnEvent::Permission(request) => {
                    let (agent_request_id, decision) =
                        (request.agent_request_id, PermissionDecision::AllowOnce);
                    self.answers.send(PermissionAnswer { agent_request_id, decision }).await.unwrap();
                }
                _ => {}
            }
        }
        text
    }

    fn text(&mut self) -> String {
        let mut text = String::new();
        while let Ok(event) = self.events.try_recv() {
            if let TurnEvent::Text(said) = event {
                text += &said;
            }
        }
        text
    }
}

async fn ask(
    backend: &ScriptedBackend,
    handle: &AgentSessionHandle,
    turn: TurnRef,
    text: &str,
) -> (Result<TurnEnd, BackendError>, String) {
    let (io, caller) = channels();
    let prompt = Prompt { turn, text: text.to_owned(), settings: TaskSettings::default() };
    let turn = async { tokio::join!(backend.prompt(handle, &prompt, io), caller.allow_everything()) };
    tokio::time::timeout(DEADLINE, turn).await.expect("the turn ends")
}

#[tokio::test]
async fn every_failure_reason_reaches_the_caller_as_itself() {
    let backend = backend(None);
    let key = key();
    for reason in FailureReason::ALL {
        let handle = ensure(&backend, &key, None, &[]).await;
        let (end, said) =
            ask(&backend, &handle, turn(task(), 1), &format!("SAY: half\nFAIL:{}", reason.as_str())).await;
        assert_eq!(end.unwrap_err().reason(), reason);
        assert_eq!(said, "half");
    }
}

#[tokio::test]
async fn tries_are_counted_by_task_across_conversations_and_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let (key, task) = (key(), task());
    let mut reasons = Vec::new();
    for fence in 1..=3 {
        let backend = backend(Some(folder.path()));
        let handle = ensure(&backend, &key, None, &[]).await;
        let prompt = "FAIL:context_overflowx2\nSAY: ok";
        let (end, _) = ask(&backend, &handle, turn(task, fence), prompt).await;
        reasons.push(end.map_err(|error| error.reason()).map(|_| ()));
        backend.dispose(Duration::from_secs(1)).await;
    }
    let overflow = Err(FailureReason::ContextOverflow);
    assert_eq!(reasons, [overflow, overflow, Ok(())]);
}

#[tokio::test]
async fn a_crash_loses_the_handle_and_not_the_conversation() {
    let backend = backend(None);
    let key = key();
    let handle = ensure(&backend, &key, None, &[]).await;
    let (end, _) = ask(&backend, &handle, turn(task(), 1), "CRASH").await;
    assert!(end.unwrap_err().lost_the_backend());
    let (end, _) = ask(&backend, &handle, turn(task(), 1), "SAY: anyone?").await;
    assert!(matches!(end, Err(BackendError::Lost(_))), "a lost handle was prompted");
    let again = ensure(&backend, &key, Some(&handle), &[]).await;
    assert_eq!(again.origin, SessionOrigin::Resumed);
    let (_, said) = ask(&backend, &again, turn(task(), 1), "RECALL").await;
    assert_eq!(said, "RECALL 1 prior user turns: CRASH");
}

#[tokio::test]
async fn a_crash_after_the_end_is_recovered_from_the_agents_own_store() {
    let folder = tempfile::tempdir().unwrap();
    let (key, first) = (key(), turn(task(), 7));
    let before = backend(Some(folder.path()));
    let handle = ensure(&before, &key, None, &[]).await;
    let (end, said) = ask(&before, &handle, first, "SAY: it is written\nCRASH:late").await;
    assert!(end.unwrap_err().lost_the_backend());
    let after = backend(Some(folder.path()));
    let handle = ensure(&after, &key, Some(&handle), &[first]).await;
    let Interrupted::Completed { output, .. } = handle.interrupted else { panic!("{handle:?}") };
    assert_eq!((output.as_str(), said.as_str()), ("it is written", "it is written"));
}

#[tokio::test(start_paused = true)]
async fn a_slow_turn_takes_no_real_time_under_a_paused_clock() {
    let backend = backend(None);
    let handle = ensure(&backend, &key(), None, &[]).await;
    let begun = Instant::now();
    let (end, said) = ask(&backend, &handle, turn(task(), 1), "SLOW:3000").await;
    assert!(matches!(end, Ok(TurnEnd::Completed { .. })));
    assert_eq!(said.split_whitespace().count(), 3_000);
    // A sleep may be a millisecond late: tokio's timer rounds up.
    let took = begun.elapsed();
    assert!((Duration::from_secs(60)..Duration::from_secs(64)).contains(&took), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_deaf_agent_heeds_only_force() {
    let backend = backend(None);
    let handle = ensure(&backend, &key(), None, &[]).await;
    let (io, caller) = channels();
    let prompt =
        Prompt { turn: turn(task(), 1), text: "HANG:deaf".into(), settings: TaskSettings::default() };
    let mut running = std::pin::pin!(backend.prompt(&handle, &prompt, io));
    let stop = |force| caller.stop.send_replace(Some(Stop { cause: StopCause::UserCancel, force }));
    stop(StopForce::Ask);
    let asked = tokio::time::timeout(Duration::from_secs(3_600), &mut running).await;
    assert!(asked.is_err(), "it stopped when asked: {asked:?}");
    stop(StopForce::Terminate);
    assert!(running.await.unwrap_err().lost_the_backend());
}

#[tokio::test]
async fn two_turns_never_run_in_one_conversation() {
    let backend = backend(None);
    let handle = ensure(&backend, &key(), None, &[]).await;
    let (io, mut caller) = channels();
    let hanging =
        Prompt { turn: turn(task(), 1), text: "SAY: in\nHANG".into(), settings: TaskSettings::default() };
    let second = async {
        caller.events.recv().await.unwrap();
        ask(&backend, &handle, turn(task(), 1), "SAY: me too").await.0
    };
    tokio::select! {
        end = backend.prompt(&handle, &hanging, io) => panic!("a hanging turn ended: {end:?}"),
        end = second => assert_eq!(end.unwrap_err().reason(), FailureReason::Internal),
    }
    let (end, said) = ask(&backend, &handle, turn(task(), 1), "SAY: now").await;
    assert!(end.is_ok() && said == "now", "{end:?} {said}");
}

#[tokio::test]
async fn what_is_always_allowed_is_not_asked_again() {
    let backend = backend(None);
    let handle = ensure(&backend, &key(), None, &[]).await;
    let (io, caller) = channels();
    let always = PermissionDecision::AllowAlways;
    let stray = PermissionAnswer {
        agent_request_id: "ask-9".into(),
        decision: PermissionDecision::Deny { message: None },
    };
    caller.answers.send(stray).await.unwrap();
    caller
        .answers
        .send(PermissionAnswer { agent_request_id: "ask-1".into(), decision: always })
        .await
        .unwrap();
    let prompt =
        Prompt { turn: turn(task(), 1), text: "ASK: deploy".into(), settings: TaskSettings::default() };
    assert!(backend.prompt(&handle, &prompt, io).await.is_ok());
    let (io, mut caller) = channels();
    assert!(backend.prompt(&handle, &prompt, io).await.is_ok());
    assert_eq!(caller.text(), "allowed: deploy ");
}

#[tokio::test]
async fn an_empty_turn_and_a_refusal_are_told_apart_from_an_answer() {
    let backend = backend(None);
    let handle = ensure(&backend, &key(), None, &[]).await;
    let (end, _) = ask(&backend, &handle, turn(task(), 1), "EMPTY").await;
    assert_eq!(end.unwrap_err().reason(), FailureReason::EmptyTurn);
    let (end, _) = ask(&backend, &handle, turn(task(), 1), "REFUSE").await;
    assert!(matches!(end, Ok(TurnEnd::Refused)));
}

#[tokio::test]
async fn a_setting_that_is_not_offered_is_dropped_with_a_notice() {
    let backend = backend(None);
    let handle = ensure(&backend, &key(), None, &[]).await;
    let (io, mut caller) = channels();
    let settings =
        TaskSettings { model: Some("gpt-9".into()), mode_id: Some("plan".into()), ..TaskSettings::default() };
    let prompt = Prompt { turn: turn(task(), 1), text: "SETTINGS".into(), settings };
    assert!(backend.prompt(&handle, &prompt, io).await.is_ok());
    let Some(TurnEvent::Notice(notice)) = caller.events.recv().await else { panic!("no notice") };
    assert!(notice.contains("gpt-9"), "{notice}");
    assert_eq!(caller.text(), "model scripted-1, mode plan");
}

#[tokio::test]
async fn a_tool_cannot_write_outside_of_the_worktree() {
    let base = tempfile::tempdir().unwrap();
    let tree = base.path().join("tree");
    std::fs::create_dir(&tree).unwrap();
    let backend = backend(None);
    let mut handle = ensure(&backend, &key(), None, &[]).await;
    handle.worktree = tree;
    let (end, _) = ask(&backend, &handle, turn(task(), 1), "TOOL:write ../escaped.txt no").await;
    assert!(end.is_ok(), "the tool fails, not the turn: {end:?}");
    assert!(!base.path().join("escaped.txt").exists());
}

#[tokio::test(start_paused = true)]
async fn every_built_in_scenario_plays_to_its_end() {
    let scenarios = Scenarios::built_in();
    for name in scenarios.names() {
        let folder = tempfile::tempdir().unwrap();
        let backend = backend(None);
        let mut handle = ensure(&backend, &key(), None, &[]).await;
        handle.worktree = folder.path().to_owned();
        let task = task();
        let mut ended = None;
        for fence in 1..=2 {
            let (end, said) = ask(&backend, &handle, turn(task, fence), &format!("SCENARIO:{name}")).await;
            assert!(!said.is_empty(), "{name} says nothing");
            ended = Some(end);
        }
        assert!(matches!(ended, Some(Ok(TurnEnd::Completed { .. }))), "{name}: {ended:?}");
    }
}
