//! Processes that do not come up.

use super::over;
use crate::support::acp::FixtureAgent;
use crate::support::conformance::{Line, Subject, options};
use agentpool::backend::{BackendError, BackendState};
use agentpool::domain::agent::AgentName;
use agentpool::domain::failure::FailureReason;
use agentpool::domain::ids::SessionId;
use agentpool::domain::session::SessionKey;
use std::time::Duration;
use uuid::Uuid;

async fn refused(subject: &FixtureAgent) -> BackendError {
    let key = SessionKey { session: SessionId(Uuid::now_v7()), agent: AgentName::new("subject").unwrap() };
    let options = options(&subject.worktree(), None, &[]);
    subject.backend().ensure_session(&key, &options).await.expect_err("it cannot start")
}

/// F61: one that never answers `initialize` is given up with its last words.
#[tokio::test]
async fn an_agent_that_never_answers_is_given_up() {
    let subject = FixtureAgent::with("hang_initialize,stderr=1", |config| {
        config.start_deadline = Duration::from_secs(1);
    });
    let error = refused(&subject).await;
    assert_eq!(error.reason(), FailureReason::SpawnFailed);
    let text = error.to_string();
    assert!(
        text.contains("did not answer to `initialize` within 1 s") && text.contains("last words"),
        "{text}"
    );
    over(subject).await;
}

/// F62: another protocol version is said so, and is no crash.
#[tokio::test]
async fn another_version_of_the_protocol_is_incompatible() {
    let subject = FixtureAgent::new("v2");
    let error = refused(&subject).await;
    assert_eq!(error.reason(), FailureReason::AgentIncompatible);
    assert!(error.to_string().contains("version 1") && error.to_string().contains('2'), "{error}");
    over(subject).await;
}

/// F76: five failed starts open the circuit; nothing is spawned while it is open.
#[tokio::test]
async fn a_crash_loop_opens_the_circuit() {
    let subject = FixtureAgent::new("exit=3");
    for _ in 0..5 {
        let error = refused(&subject).await;
        assert!(error.to_string().contains("exit code 3"), "{error}");
    }
    assert_eq!(subject.backend().health().state, BackendState::CircuitOpen);
    let error = refused(&subject).await;
    assert!(error.to_string().contains("failed 5 times within 60 s"), "{error}");
    over(subject).await;
}

/// A key that is missing is said so, and is not tried again.
#[tokio::test]
async fn an_agent_that_wants_a_login_says_so() {
    let subject = FixtureAgent::new("auth");
    let error = refused(&subject).await;
    assert_eq!(error.reason(), FailureReason::AuthRequired);
    assert!(error.to_string().contains("log in with the agent's own program"), "{error}");
    over(subject).await;
}

/// F63, F74: a banner on stdout and a flood on stderr are no harm.
#[tokio::test]
async fn a_banner_and_a_flood_of_stderr_are_no_harm() {
    let subject = FixtureAgent::new("banner,stderr=40");
    let line = Line::open(&subject).await;
    assert_eq!(line.ask(&subject, "SAY: fine").await.text(), "fine");
    assert!(
        subject.backend().health().detail.contains("3 lines of garbage"),
        "{:?}",
        subject.backend().health()
    );
    over(subject).await;
}

/// F79: what a program is started for, and who it may be: no variable of ours but the allow-listed.
#[tokio::test]
async fn the_environment_is_the_agents_own() {
    let subject = FixtureAgent::with("", |config| config.env.push(("OWN_KEY".into(), "k1".into())));
    let line = Line::open(&subject).await;
    let home = subject.folder.path().canonicalize().unwrap();
    for (name, wanted) in [
        ("OWN_KEY", "k1"),
        ("HOME", home.to_str().unwrap()),
        ("CARGO_MANIFEST_DIR", "CARGO_MANIFEST_DIR is unset"),
    ] {
        assert_eq!(line.ask(&subject, &format!("ENV {name}")).await.text(), wanted);
    }
    over(subject).await;
}
