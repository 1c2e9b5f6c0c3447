//! When an agent that cannot be started is tried again: a pause after each failure, and none at all after five in a minute. Pure: the
//! time comes in.

use super::BackendError;
use std::collections::VecDeque;
use std::time::Duration;
use tokio::time::Instant;

/// Failures within [`WINDOW`] that open the circuit.
const FAILURES_MAX: usize = 5;
/// What is forgotten about failures.
const WINDOW: Duration = Duration::from_secs(60);
/// Pause after the first failure, doubled by each further one: 0.5, 1, 2, 4 s, so that the fifth comes in the window.
const PAUSE: Duration = Duration::from_millis(500);

/// The times of the last failures.
#[derive(Debug, Default)]
pub(super) struct Failures(VecDeque<Instant>);

/// Whether a start may be tried.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// After this pause.
    Try(Duration),
    /// Not before this has passed.
    Open(Duration),
}

/// Why there is no agent. Clones go to everyone who waited.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum StartError {
    /// Trying again may help.
    #[error("{0}")]
    Failed(String),
    /// Trying again will not help.
    #[error("{0}")]
    Incompatible(String),
}

impl From<StartError> for BackendError {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Failed(cause) => Self::Spawn(cause),
            StartError::Incompatible(cause) => Self::Incompatible(cause),
        }
    }
}

/// What whoever comes hears while the circuit is open for so long, after that last failure.
pub(super) fn open(last: Option<&StartError>, left: Duration) -> BackendError {
    let say = |cause: &str| {
        let (secs, wait) = (WINDOW.as_secs(), left.as_secs() + 1);
        format!(
            "it failed {FAILURES_MAX} times within {secs} s and is tried again in {wait} s; last: {cause}"
        )
    };
    match last {
        Some(StartError::Incompatible(cause)) => BackendError::Incompatible(say(cause)),
        Some(StartError::Failed(cause)) => BackendError::Spawn(say(cause)),
        None => BackendError::Spawn(say("unknown")),
    }
}

impl Failures {
    /// One more.
    pub(super) fn add(&mut self, now: Instant) {
        self.0.push_back(now);
        self.forget(now);
    }

    /// Whether a start may be tried now.
    pub(super) fn verdict(&mut self, now: Instant) -> Verdict {
        self.forget(now);
        let (Some(oldest), Some(last)) = (self.0.front(), self.0.back()) else {
            return Verdict::Try(Duration::ZERO);
        };
        if self.0.len() >= FAILURES_MAX {
            return Verdict::Open((*oldest + WINDOW).saturating_duration_since(now));
        }
        // At most 2^3: five would have opened the circuit.
        let doublings = u32::try_from(self.0.len() - 1).unwrap_or(0);
        Verdict::Try((*last + PAUSE * 2_u32.pow(doublings)).saturating_duration_since(now))
    }

    fn forget(&mut self, now: Instant) {
        while self.0.front().is_some_and(|oldest| now.saturating_duration_since(*oldest) >= WINDOW) {
            self.0.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_doubles_the_pause_and_the_fifth_opens_the_circuit_for_a_while() {
        let mut failures = Failures::default();
        let mut now = Instant::now();
        assert_eq!(failures.verdict(now), Verdict::Try(Duration::ZERO));
        for expected_ms in [500, 1000, 2000, 4000] {
            failures.add(now);
            let pause = Duration::from_millis(expected_ms);
            assert_eq!(failures.verdict(now), Verdict::Try(pause));
            now += pause;
            assert_eq!(failures.verdict(now), Verdict::Try(Duration::ZERO));
        }
        failures.add(now);
        let open = Duration::from_millis(52_500);
        assert_eq!(failures.verdict(now), Verdict::Open(open));
        assert!(matches!(failures.verdict(now + open), Verdict::Try(_)));
    }
}
