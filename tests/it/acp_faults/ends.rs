//! How turns end that do not end well.

use super::over;
use crate::support::acp::FixtureAgent;
use crate::support::conformance::{Line, Policy};
use agentpool::backend::BackendError;
use agentpool::domain::failure::FailureReason;
use agentpool::domain::turn::{StopForce, TurnEnd, TurnEvent};
use std::time::{Duration, Instant};

/// A cancel can be lost right after the prompt: it is asked again.
#[tokio::test]
async fn a_lost_cancel_is_asked_again() {
    let subject = FixtureAgent::with("", |config| config.patience.cancel_again = Duration::from_millis(50));
    let line = Line::open(&subject).await;
    let mut running = line.begin(&subject, "LOSE_CANCEL:3\nSLOW:2000", 64);
    running.text_seen("tok1").await;
    running.stop(StopForce::Ask);
    assert!(matches!(running.finish(Policy::Deny).await.end, Ok(TurnEnd::Cancelled)));
    assert_eq!(line.ask(&subject, "SAY: next").await.text(), "next");
    over(subject).await;
}

/// F68: who ignores it is ended after a bound; the next turn has a new process with the same memory.
#[tokio::test]
async fn an_agent_that_ignores_a_cancel_is_ended() {
    let subject =
        FixtureAgent::with("ignore_term", |config| config.patience.cancel = Duration::from_millis(300));
    let mut line = Line::open(&subject).await;
    line.ask(&subject, "SAY: remember the wren").await.completed();
    let mut running = line.begin(&subject, "IGNORE_CANCEL\nSLOW:2000", 64);
    running.text_seen("tok1").await;
    running.stop(StopForce::Ask);
    let told = running.finish(Policy::Deny).await;
    assert!(matches!(told.end, Err(BackendError::Lost(_))), "{:?}", told.end);
    let id = line.handle.agent_session_id.clone();
    line.ensure(&subject, Some(id), &[]).await;
    assert!(line.ask(&subject, "RECALL").await.text().contains("wren"));
    over(subject).await;
}

/// Each step of force ends the turn at once.
#[tokio::test]
async fn force_does_not_wait_for_an_answer() {
    for force in [StopForce::Terminate, StopForce::Kill] {
        let subject = FixtureAgent::new("hang_cancel");
        let line = Line::open(&subject).await;
        let mut running = line.begin(&subject, "SLOW:2000", 64);
        running.text_seen("tok1").await;
        running.stop(force);
        let told = running.finish(Policy::Deny).await;
        assert!(matches!(told.end, Err(BackendError::Lost(_))), "{:?}", told.end);
        over(subject).await;
    }
}

/// What trails behind a cancelled turn names no turn: the next prompt waits until it was quiet.
#[tokio::test]
async fn a_late_word_of_a_cancelled_turn_is_nobodys() {
    let subject = FixtureAgent::new("");
    let line = Line::open(&subject).await;
    let mut running = line.begin(&subject, "AFTER_CANCEL: too late\nLATE_CANCEL:20\nSLOW:2000", 64);
    running.text_seen("tok1").await;
    running.stop(StopForce::Ask);
    assert!(matches!(running.finish(Policy::Deny).await.end, Ok(TurnEnd::Cancelled)));
    for _ in 0..3 {
        assert_eq!(line.ask(&subject, "SAY: mine").await.text(), "mine");
    }
    over(subject).await;
}

/// A person who is asked when the turn is cancelled needs not answer: the agent hears `cancelled`.
#[tokio::test]
async fn a_cancel_answers_every_open_question() {
    let subject = FixtureAgent::new("");
    let line = Line::open(&subject).await;
    let mut running = line.begin(&subject, "TOOL:write never.txt x", 64);
    while !running.seen.iter().any(|event| matches!(event, TurnEvent::Permission(_))) {
        running.event().await.expect("it asks");
    }
    running.stop(StopForce::Ask);
    assert!(matches!(running.finish(Policy::Deny).await.end, Ok(TurnEnd::Cancelled)));
    assert!(!line.worktree.join("never.txt").exists());
    assert_eq!(line.ask(&subject, "SAY: next").await.text(), "next");
    over(subject).await;
}

/// F70: exit codes and signals in the middle of a turn fail it at once, with the last words.
#[tokio::test]
async fn a_process_that_dies_in_a_turn_fails_it_at_once() {
    for (prompt, wanted) in [
        ("SAY: x\nEXIT:0", "exit code 0"),
        ("SAY: x\nSTDERR:1\nEXIT:7", "exit code 7"),
        ("SAY: x\nKILL:KILL", "signal 9"),
        ("SAY: x\nPARTIAL:5", "exit code 5"),
    ] {
        let subject = FixtureAgent::new("");
        let line = Line::open(&subject).await;
        let told = line.ask(&subject, prompt).await;
        assert_eq!(told.reason(), FailureReason::AgentCrashed, "{prompt}");
        assert!(format!("{:?}", told.end).contains(wanted), "{prompt}: {:?}", told.end);
        assert_eq!(told.text(), "x", "what was said before is kept");
        over(subject).await;
    }
}

/// F71, F72: descendants that hold the output, in sessions of their own, neither delay the end nor outlive it.
#[tokio::test]
async fn descendants_that_hold_the_output_delay_nothing_and_do_not_stay() {
    let subject = FixtureAgent::new("");
    let line = Line::open(&subject).await;
    let begun = Instant::now();
    let told = line.ask(&subject, "GRANDCHILDREN:3\nEXIT:1").await;
    assert_eq!(told.reason(), FailureReason::AgentCrashed);
    assert!(begun.elapsed() < Duration::from_secs(60), "their ten minutes were waited for");
    over(subject).await;
}

/// Success is not read from the stop reason.
#[tokio::test]
async fn failures_that_are_told_as_text_or_error_have_their_reason() {
    use FailureReason as R;
    let subject = FixtureAgent::new("");
    let line = Line::open(&subject).await;
    for (what, reason) in [
        ("429", R::RateLimited),
        ("429@30", R::RateLimited),
        ("usage@600", R::RateLimited),
        ("401", R::AuthRequired),
        ("400", R::BadRequest),
        ("500", R::ProviderError),
        ("overflow", R::ContextOverflow),
        ("model", R::ModelUnknown),
    ] {
        for kind in ["FAIL", "TEXT_ERROR"] {
            let told = line.ask(&subject, &format!("{kind}:{what}")).await;
            assert_eq!(told.reason(), reason, "{kind}:{what}: {:?}", told.end);
        }
    }
    assert_eq!(line.ask(&subject, "FAIL:auth").await.reason(), R::AuthRequired);
    assert!(matches!(line.ask(&subject, "SAY: no\nREFUSE").await.end, Ok(TurnEnd::Refused)));
    let told = line.ask(&subject, "EMPTY").await;
    assert!(
        told.text().is_empty()
            && matches!(&told.end, Ok(TurnEnd::Completed { usage, .. }) if usage.is_zero())
    );
    over(subject).await;
}

/// A turn that waits for the one before it, which does not end, can be cancelled too.
#[tokio::test]
async fn a_turn_that_waits_for_its_predecessor_is_cancelled_at_once() {
    let subject = FixtureAgent::new("");
    let line = Line::open(&subject).await;
    let mut first = line.begin(&subject, "IGNORE_CANCEL\nSLOW:2000", 64);
    first.text_seen("tok1").await;
    first.drop_prompt().await;
    let second = line.begin(&subject, "SAY: never said", 64);
    second.stop(StopForce::Ask);
    // Long before the first one's ten seconds are over, or else its process is gone and this would be its loss.
    assert!(matches!(second.finish(Policy::Deny).await.end, Ok(TurnEnd::Cancelled)));
    over(subject).await;
}
