//! How often a dispatcher visits the database: at once when idle, every 25 ms under load. Commits are the cost, not rows.

use std::time::Duration;
use tokio::time::Instant;

/// Shortest time between two rounds under load: 40 commits a second.
pub(super) const ROUND_EVERY: Duration = Duration::from_millis(25);
/// Rounds that may follow each other at once: an end and the claim after it are one turn's, and no load.
const ROUNDS_AT_ONCE: u32 = 4;

/// A leaky bucket of rounds.
pub(super) struct Pacing {
    /// Grows by [`ROUND_EVERY`] a round; how far it is ahead of now says how busy the last moments were.
    paced: Instant,
}

impl Pacing {
    pub(super) fn new(now: Instant) -> Self {
        Self { paced: now }
    }

    /// When the next round may be.
    pub(super) fn earliest(&self) -> Instant {
        self.paced.checked_sub(ROUND_EVERY * (ROUNDS_AT_ONCE - 1)).unwrap_or(self.paced)
    }

    /// A round takes place.
    pub(super) fn taken(&mut self, now: Instant) {
        self.paced = self.paced.max(now) + ROUND_EVERY;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_rounds_go_at_once_and_many_go_at_the_pace() {
        let now = Instant::now() + ROUND_EVERY * 10;
        let mut pacing = Pacing::new(now);
        for _ in 0..ROUNDS_AT_ONCE {
            assert!(pacing.earliest() <= now);
            pacing.taken(now);
        }
        assert_eq!(pacing.earliest(), now + ROUND_EVERY);
        let later = now + Duration::from_secs(1);
        assert!(pacing.earliest() <= later, "an idle second forgives everything");
        pacing.taken(later);
        assert!(pacing.earliest() <= later);
    }
}
