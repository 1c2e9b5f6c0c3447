//! How a dispatcher comes to its end: open, draining, stopping, killing. Pure; the times are given.

use crate::domain::turn::{Stop, StopCause, StopForce};
use std::time::Duration;
use tokio::time::Instant;

/// What turns that were asked to stop get before they are killed. With [`LAST_WRITES`] it is what a node needs beyond its
/// drain timeout: below 5 s, so that a service manager's KILL never comes first.
const STOP_GRACE: Duration = Duration::from_secs(3);
/// What turns that were killed get for their ends to be written.
const LAST_WRITES: Duration = Duration::from_secs(1);

/// Where a dispatcher stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// It claims.
    Open,
    /// Until when turns may finish by themselves.
    Draining(Instant),
    /// They were asked to stop; until when.
    Stopping(Instant),
    /// They were killed; until when their ends may be written.
    Killing(Instant),
}

impl Phase {
    /// A drain is asked.
    pub(super) fn draining(now: Instant, timeout: Duration) -> Self {
        // A timeout beyond what a clock can count is one that never passes.
        Self::Draining(now.checked_add(timeout).unwrap_or_else(|| now + Duration::from_secs(86_400 * 365)))
    }

    /// An end at once is asked.
    pub(super) fn killing(now: Instant) -> Self {
        Self::Killing(now + LAST_WRITES)
    }

    /// When to look again.
    pub(super) fn until(self) -> Option<Instant> {
        match self {
            Self::Open => None,
            Self::Draining(until) | Self::Stopping(until) | Self::Killing(until) => Some(until),
        }
    }

    /// Its time is up.
    pub(super) fn is_past(self, now: Instant) -> bool {
        self.until().is_some_and(|until| now >= until)
    }

    /// What comes when the time is up, and what the turns are told.
    pub(super) fn next(self, now: Instant) -> (Self, Option<Stop>) {
        let drain = |force| Some(Stop { cause: StopCause::Drain, force });
        match self {
            Self::Draining(_) => (Self::Stopping(now + STOP_GRACE), drain(StopForce::Ask)),
            Self::Stopping(_) => (Self::killing(now), drain(StopForce::Kill)),
            Self::Open | Self::Killing(_) => (self, None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f09_a_node_is_gone_five_seconds_after_its_drain_timeout() {
        let start = Instant::now();
        let mut now = start;
        let mut phase = Phase::draining(now, Duration::from_secs(30));
        let mut told = Vec::new();
        while !matches!(phase, Phase::Killing(_)) {
            now = phase.until().expect("it ends");
            let (next, stop) = phase.next(now);
            told.extend(stop.map(|stop| stop.force));
            phase = next;
        }
        assert_eq!(told, [StopForce::Ask, StopForce::Kill]);
        let over = phase.until().expect("it ends");
        assert!(over - start < Duration::from_secs(35) && phase.is_past(over));
    }
}
