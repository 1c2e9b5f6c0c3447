//! The story of one conversation with a real agent, from its first turn over a kill and an eviction, with the model's own log as
//! the witness.

use super::conformance::{Line, Policy, Subject};
use super::leaks::assert_nothing_left;
use super::real_agents::{RealAgent, Which};
use agentpool::backend::SessionOrigin;
use agentpool::backend::acp::Sharing;
use agentpool::domain::failure::FailureReason;
use agentpool::domain::task::TaskSettings;
use agentpool::domain::turn::{StopForce, TurnEnd};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::time::Duration;

pub async fn one_conversation(which: Which) {
    let subject = RealAgent::new(which, Sharing::Own).await;
    let mut line = Line::open(&subject).await;
    let begun = tokio::time::Instant::now();
    // Two warm turns: one process, and the model is sent the first with the second.
    assert_eq!(line.ask(&subject, "SAY: remember the heron").await.text().trim(), "remember the heron");
    let pids = subject.backend().health().pids;
    line.ask(&subject, "SAY: and the stork").await.completed();
    assert_eq!(subject.backend().health().pids, pids, "the process was not kept");
    assert_remembered(&subject, "and the stork", "remember the heron");
    // Tools.
    let asked = subject.ask_and_write("yes.txt", "hello");
    line.begin(&subject, &asked, 64).finish(Policy::Allow).await.completed();
    assert_eq!(std::fs::read_to_string(line.worktree.join("yes.txt")).unwrap().trim(), "hello");
    line.begin(&subject, &subject.ask_and_write("no.txt", "hello"), 64).finish(Policy::Deny).await;
    assert!(!line.worktree.join("no.txt").exists(), "a refused tool ran");
    // A cancel, and the next prompt at once.
    let mut running = line.begin(&subject, "SLOW:500", 64);
    running.text_seen("tok1").await;
    running.stop(StopForce::Ask);
    assert!(matches!(running.finish(Policy::Deny).await.end, Ok(TurnEnd::Cancelled)));
    assert_eq!(line.ask(&subject, "SAY: next").await.text().trim(), "next");
    // Another model and mode, without a word of refusal; and back.
    let (model, mode) = subject.other_choices();
    let wishes = TaskSettings {
        model: Some(model.to_owned()),
        mode_id: mode.map(str::to_owned),
        ..TaskSettings::default()
    };
    let told = line.begin_with(&subject, "SAY: elsewhere", wishes, 64).finish(Policy::Deny).await;
    told.completed();
    assert!(
        !told.notices().contains("not offered") && !told.notices().contains("could not"),
        "{}",
        told.notices()
    );
    let told = line.ask(&subject, "SAY: and back").await;
    told.completed();
    let (other, usual) = (model_of(&subject, "elsewhere"), model_of(&subject, "and back"));
    assert_ne!(other, usual, "the model did not change");
    if !subject.resumes_at_once() {
        tokio::time::sleep_until(begun + Duration::from_secs(61)).await;
    }
    // SIGKILL in the middle of a turn; the next one goes on with all that was said.
    let mut running = line.begin(&subject, "SLOW:500", 64);
    running.text_seen("tok1").await;
    for pid in subject.backend().health().pids {
        kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL).unwrap();
    }
    assert_eq!(running.finish(Policy::Deny).await.reason(), FailureReason::AgentCrashed);
    resume(&subject, &mut line, "SAY: after the kill").await;
    // Eviction: the process is given back, the conversation is not.
    subject.backend().release(&line.handle).await.unwrap();
    assert!(subject.backend().health().pids.is_empty());
    resume(&subject, &mut line, "SAY: after the eviction").await;
    subject.backend().dispose(Duration::from_secs(5)).await;
    assert_nothing_left(&subject.mark);
}

async fn resume(subject: &RealAgent, line: &mut Line, prompt: &str) {
    let id = line.handle.agent_session_id.clone();
    line.ensure(subject, Some(id), &[]).await;
    assert_eq!(line.handle.origin, SessionOrigin::Resumed);
    line.ask(subject, prompt).await.completed();
    assert_remembered(subject, prompt.trim_start_matches("SAY: "), "remember the heron");
}

/// The newest request with these words had those before it.
fn assert_remembered(subject: &RealAgent, words: &str, before: &str) {
    let requests = subject.model.requests();
    let newest = requests.iter().rev().find(|request| format!("{request:?}").contains(words));
    let newest = newest.unwrap_or_else(|| panic!("no request with {words:?}"));
    assert!(format!("{newest:?}").contains(before), "{before:?} is not in {newest:?}");
}

/// The model that was asked this last.
fn model_of(subject: &RealAgent, words: &str) -> String {
    let requests = subject.model.requests();
    let asked = requests.iter().rev().find(|request| request.directive.contains(words));
    asked.map(|request| request.model.clone()).unwrap_or_else(|| panic!("no request with {words:?}"))
}
