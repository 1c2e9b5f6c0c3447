//! Processes that wait for their conversation, and those that many share.

use super::over;
use crate::support::acp::FixtureAgent;
use crate::support::conformance::{Line, Policy, Subject};
use agentpool::backend::acp::Sharing;
use agentpool::backend::{Occasion, SessionOrigin};
use agentpool::domain::failure::FailureReason;
use std::time::Duration;

async fn until_ready(subject: &FixtureAgent, spare: &str) {
    let until = tokio::time::Instant::now() + Duration::from_secs(30);
    while !subject.backend().health().detail.contains(spare) {
        assert!(tokio::time::Instant::now() < until, "{:?}", subject.backend().health());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_spare_process_is_taken_and_another_one_made_ready() {
    let subject = FixtureAgent::with("", |config| config.spare = 2);
    until_ready(&subject, "(2 spare)").await;
    let waiting = subject.backend().health().pids;
    let line = Line::open(&subject).await;
    let pid: u32 = line.ask(&subject, "PID").await.text().trim().parse().unwrap();
    assert!(waiting.contains(&pid), "{pid} is none of {waiting:?}");
    until_ready(&subject, "3 processes (2 spare)").await;
    over(subject).await;
}

#[tokio::test]
async fn a_conversation_opened_ahead_is_the_first_turns_of_that_worktree_and_goes_when_memory_is_short() {
    let subject = FixtureAgent::with("", |config| config.spare = 1);
    until_ready(&subject, "(1 spare)").await;
    let [waiting] = subject.backend().health().pids[..] else { panic!("one process") };
    let (here, elsewhere) = (subject.worktree(), subject.worktree());
    subject.backend().prewarm(&here, Occasion::TurnBegins).await;
    until_ready(&subject, "1 processes (1 spare), 0 conversations").await;
    subject.backend().prewarm(&here, Occasion::SessionMade).await;
    assert!(subject.backend().health().detail.contains("(0 spare), 1 conversations"));
    until_ready(&subject, "2 processes (1 spare), 1 conversations").await;
    assert!(subject.backend().health().spares.contains(&waiting), "nobody has prompted it");
    let pid = async |line: &Line| line.ask(&subject, "PID").await.text().trim().parse::<u32>().unwrap();
    let other = Line::open_in(&subject, elsewhere).await;
    assert_ne!(pid(&other).await, waiting);
    let line = Line::open_in(&subject, here).await;
    assert_eq!((line.handle.origin, pid(&line).await), (SessionOrigin::New, waiting));
    assert!(!subject.backend().health().spares.contains(&waiting), "it has been taken");

    until_ready(&subject, "3 processes (1 spare)").await;
    for _ in 0..2 {
        subject.backend().prewarm(&subject.worktree(), Occasion::SessionMade).await;
        until_ready(&subject, "4 processes (1 spare), 3 conversations").await;
    }
    subject.backend().give_back_spares().await;
    assert!(subject.backend().health().detail.contains("2 processes (0 spare), 2 conversations"));
    over(subject).await;
}

#[tokio::test]
async fn a_shared_process_serves_all_and_its_loss_is_everybodys() {
    let subject = FixtureAgent::with("", |config| config.sharing = Sharing::Shared);
    let (mut left, right) = (Line::open(&subject).await, Line::open(&subject).await);
    assert_eq!(left.ask(&subject, "PID").await.text(), right.ask(&subject, "PID").await.text());
    left.ask(&subject, "SAY: remember the coot").await.completed();
    let mut running = left.begin(&subject, "SLOW:2000", 64);
    running.text_seen("tok1").await;
    assert_eq!(right.ask(&subject, "KILL:KILL").await.reason(), FailureReason::AgentCrashed);
    assert_eq!(running.finish(Policy::Deny).await.reason(), FailureReason::AgentCrashed);
    let id = left.handle.agent_session_id.clone();
    left.ensure(&subject, Some(id), &[]).await;
    assert!(left.ask(&subject, "RECALL").await.text().contains("coot"));
    over(subject).await;
}
