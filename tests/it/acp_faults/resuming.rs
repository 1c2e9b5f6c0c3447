//! The chain: live, resumed, loaded, begun anew.

use super::over;
use crate::support::acp::FixtureAgent;
use crate::support::conformance::{Line, Policy, Subject};
use agentpool::backend::SessionOrigin;
use agentpool::domain::failure::FailureReason;
use agentpool::domain::turn::TurnEvent;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// SIGKILL of the process, then the next turn: with the memory that the chain can keep.
async fn after_a_kill(faults: &str) -> (FixtureAgent, Line, String) {
    let subject = FixtureAgent::new(faults);
    let mut line = Line::open(&subject).await;
    line.ask(&subject, "SAY: remember the kite").await.completed();
    let mut running = line.begin(&subject, "SLOW:2000", 64);
    running.text_seen("tok1").await;
    for pid in subject.backend().health().pids {
        kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL).unwrap();
    }
    assert_eq!(running.finish(Policy::Deny).await.reason(), FailureReason::AgentCrashed);
    let id = line.handle.agent_session_id.clone();
    line.ensure(&subject, Some(id), &[]).await;
    let told = line.ask(&subject, "RECALL").await;
    let texts = told.events.iter().filter(|event| matches!(event, TurnEvent::Text(_))).count();
    assert!(texts <= 2, "a replay was shown as new: {:?}", told.events);
    let recalled = told.text();
    (subject, line, recalled)
}

#[tokio::test]
async fn each_link_of_the_chain_holds_when_the_one_before_is_missing() {
    for faults in ["", "no_resume", "lie_resume", "fail_resume"] {
        let (subject, line, recalled) = after_a_kill(faults).await;
        assert_eq!(line.handle.origin, SessionOrigin::Resumed, "{faults}");
        assert!(recalled.contains("kite"), "{faults}: {recalled}");
        over(subject).await;
    }
    for faults in ["no_resume,no_load", "lie_resume,lie_load", "fail_resume,fail_load"] {
        let (subject, line, recalled) = after_a_kill(faults).await;
        assert_eq!(line.handle.origin, SessionOrigin::NewInsteadOfResumed, "{faults}");
        assert!(!recalled.contains("kite"), "{faults}: {recalled}");
        over(subject).await;
    }
}

/// F77: a replay of 50 MB is heard behind a barrier and shown to nobody.
#[tokio::test(flavor = "multi_thread")]
async fn a_long_replay_is_no_event_of_any_turn() {
    let (subject, line, recalled) = after_a_kill("no_resume,replay_mb=50").await;
    assert_eq!(line.handle.origin, SessionOrigin::Resumed);
    assert!(recalled.contains("kite") && recalled.len() < 10_000, "{} bytes", recalled.len());
    over(subject).await;
}

/// A conversation that was stopped by SIGSTOP is not answered; it is ended by force, and resumed.
#[tokio::test]
async fn a_stopped_process_is_ended_by_force_and_resumed() {
    let subject = FixtureAgent::with("", |config| {
        config.patience.cancel = std::time::Duration::from_millis(300);
    });
    let mut line = Line::open(&subject).await;
    line.ask(&subject, "SAY: remember the kite").await.completed();
    let mut running = line.begin(&subject, "SAY: now\nSTOP_SELF", 64);
    running.text_seen("now").await;
    running.stop(agentpool::domain::turn::StopForce::Ask);
    running.finish(Policy::Deny).await;
    let id = line.handle.agent_session_id.clone();
    line.ensure(&subject, Some(id), &[]).await;
    assert!(line.ask(&subject, "RECALL").await.text().contains("kite"));
    over(subject).await;
}
