//! Faults of agents that speak ACP (rows F61 to F79 of the fault table), shown on the fixture agent: real agents cannot be made
//! to do most of this. Each test ends with nothing left alive.

mod ends;
mod resuming;
mod settings;
mod spares;
mod starts;
mod tools;
mod wire;

use crate::support::acp::FixtureAgent;
use crate::support::conformance::Subject;
use crate::support::leaks::assert_nothing_left;
use std::time::Duration;

/// Ends the backend and looks for what it left.
async fn over(subject: FixtureAgent) {
    subject.backend().dispose(Duration::from_secs(5)).await;
    assert_nothing_left(&subject.mark);
}
