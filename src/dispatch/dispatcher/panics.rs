//! When defects of ours are no bad luck of single turns any more. Pure; the times are given.

use std::time::Duration;
use tokio::time::Instant;

/// So many turns that panicked within [`WINDOW`], and the node ends, for its service manager to start it anew.
const MAX: usize = 20;
const WINDOW: Duration = Duration::from_secs(60);

/// The times of the last ones.
#[derive(Debug, Default)]
pub(super) struct Panics(Vec<Instant>);

impl Panics {
    /// One more. True when it is one too many.
    pub(super) fn count(&mut self, now: Instant) -> bool {
        self.0.retain(|at| now.saturating_duration_since(*at) < WINDOW);
        self.0.push(now);
        self.are_too_many()
    }

    pub(super) fn are_too_many(&self) -> bool {
        self.0.len() >= MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f13_single_panics_are_lived_with_and_twenty_in_a_minute_are_not() {
        let now = Instant::now();
        let mut rare = Panics::default();
        assert!((0..100).all(|n| !rare.count(now + WINDOW * n)));
        let mut many = Panics::default();
        assert!((1..MAX).all(|_| !many.count(now)));
        assert!(many.count(now));
    }
}
