//! What the pool has done since the start: how conversations came to be and how long that took, what was given back and why.
//! Counts only; decides nothing.

use super::eviction::Reason;
use crate::backend::SessionOrigin;
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Starts that the percentiles are taken of. Enough for a 95th percentile that means something, and of today, not of last week.
const RECENT_MAX: usize = 256;

/// Everything that is counted, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// A warm conversation was gone on with.
    pub hits: u64,
    /// The agent found a conversation again that was not warm.
    pub resumed: u64,
    /// Begun with nothing to resume.
    pub new: u64,
    /// Begun although something was to be resumed.
    pub new_instead_of_resumed: u64,
    /// There was no conversation: the agent did not start, or refused.
    pub failed: u64,
    /// How long hits took.
    pub warm: Times,
    /// How long everything took that was no hit, failures aside.
    pub cold: Times,
    /// Given back because nobody used them for too long.
    pub evicted_idle: u64,
    /// Given back because there were too many.
    pub evicted_too_many: u64,
    /// Given back because all together held too much memory.
    pub evicted_for_memory: u64,
    /// Agents that did not confirm that they gave a conversation back.
    pub releases_failed: u64,
}

/// How long something took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// How often.
    pub count: u64,
    /// Altogether.
    pub sum: Duration,
    /// The last time.
    pub last: Duration,
    /// The longest.
    pub max: Duration,
    recent: VecDeque<Duration>,
}

impl Times {
    fn add(&mut self, took: Duration) {
        self.count += 1;
        self.sum += took;
        self.last = took;
        self.max = self.max.max(took);
        if self.recent.len() == RECENT_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back(took);
    }

    /// So many of a hundred of the last ones took no longer; `None` when there were none.
    pub fn percentile(&self, percent: u8) -> Option<Duration> {
        let mut sorted: Vec<Duration> = self.recent.iter().copied().collect();
        sorted.sort_unstable();
        let rank = (sorted.len() * usize::from(percent.min(100))).div_ceil(100);
        sorted.get(rank.saturating_sub(1)).copied()
    }
}

impl Counts {
    /// Slots that were given back, for whatever reason.
    pub fn evicted(&self) -> u64 {
        self.evicted_idle + self.evicted_too_many + self.evicted_for_memory
    }
}

/// The counters of a pool.
#[derive(Default)]
pub(super) struct Counters(Mutex<Counts>);

impl Counters {
    pub(super) fn ensured(&self, origin: SessionOrigin, took: Duration) {
        let mut counts = self.counts();
        let (count, is_warm) = match origin {
            SessionOrigin::Reused => (&mut counts.hits, true),
            SessionOrigin::Resumed => (&mut counts.resumed, false),
            SessionOrigin::New => (&mut counts.new, false),
            SessionOrigin::NewInsteadOfResumed => (&mut counts.new_instead_of_resumed, false),
        };
        *count += 1;
        if is_warm { counts.warm.add(took) } else { counts.cold.add(took) }
    }

    pub(super) fn not_ensured(&self) {
        self.counts().failed += 1;
    }

    pub(super) fn evicted(&self, reason: Reason) {
        let mut counts = self.counts();
        match reason {
            Reason::Idle => counts.evicted_idle += 1,
            Reason::TooMany => counts.evicted_too_many += 1,
            Reason::Memory => counts.evicted_for_memory += 1,
        }
    }

    pub(super) fn release_failed(&self) {
        self.counts().releases_failed += 1;
    }

    pub(super) fn now(&self) -> Counts {
        self.counts().clone()
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        // No panic can leave a number half-changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_last_ones_and_the_rest_is_of_all() {
        let mut times = Times::default();
        assert_eq!(times.percentile(50), None);
        times.add(Duration::from_secs(9));
        for ms in 1..=256 {
            times.add(Duration::from_millis(ms));
        }
        assert_eq!(
            (times.count, times.max, times.last),
            (257, Duration::from_secs(9), Duration::from_millis(256))
        );
        assert_eq!(times.percentile(50), Some(Duration::from_millis(128)));
        assert_eq!(times.percentile(95), Some(Duration::from_millis(244)));
        assert_eq!(times.percentile(100), Some(Duration::from_millis(256)), "the nine seconds are long ago");
    }

    #[test]
    fn only_a_hit_is_warm() {
        let counters = Counters::default();
        for origin in [
            SessionOrigin::Reused,
            SessionOrigin::Resumed,
            SessionOrigin::New,
            SessionOrigin::NewInsteadOfResumed,
        ] {
            counters.ensured(origin, Duration::from_millis(1));
        }
        let counts = counters.now();
        assert_eq!((counts.hits, counts.resumed, counts.new, counts.new_instead_of_resumed), (1, 1, 1, 1));
        assert_eq!((counts.warm.count, counts.cold.count), (1, 3));
    }
}
