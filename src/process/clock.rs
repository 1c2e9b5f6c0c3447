//! The clocks that shims obey, and the deadline of the node's leases. Reads time; never waits.

use nix::time::{ClockId, clock_gettime};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// Milliseconds on `CLOCK_BOOTTIME`: counts suspends, is the same for all processes of a machine.
pub type BoottimeMs = i64;

/// How long a renewal, and any beat, is good for: the lease's TTL (15 s) less 3 s for the tree to be killed in.
pub(super) const GOOD_FOR: Duration = Duration::from_secs(12);

/// Stands for "no lease is at stake".
const NO_LEASE: i64 = i64::MIN;

/// Now, in milliseconds of `CLOCK_BOOTTIME`.
pub fn boottime_ms() -> BoottimeMs {
    now_ms(ClockId::CLOCK_BOOTTIME)
}

/// Milliseconds as a signed number, which times are counted in here.
pub(super) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn now_ms(clock: ClockId) -> i64 {
    let now = clock_gettime(clock).expect("Linux has had both clocks since 2.6.39");
    now.tv_sec() * 1000 + now.tv_nsec() / 1_000_000
}

/// Which clock a child's deadline is read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Clock {
    /// For children that serve leases: others may take the lease while this machine sleeps.
    Boottime,
    /// For all others: a lid that was closed for an hour is no reason to stop a database.
    Monotonic,
}

impl Clock {
    pub(super) fn now_ms(self) -> i64 {
        match self {
            Self::Boottime => boottime_ms(),
            Self::Monotonic => now_ms(ClockId::CLOCK_MONOTONIC),
        }
    }

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Boottime => "boottime",
            Self::Monotonic => "monotonic",
        }
    }

    pub(super) fn parse(word: &str) -> Option<Self> {
        [Self::Boottime, Self::Monotonic].into_iter().find(|clock| clock.as_str() == word)
    }
}

/// How often shims hear from us, and for how long one word is good. The defaults are the design's; tests shorten them.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Between two beats.
    pub beat: Duration,
    /// From a beat to the moment when a child that serves no lease must be gone.
    pub good_for: Duration,
    /// The most grace that a child gets after a deadline: what is left of `good_for` when stopping begins.
    pub lead_max: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self { beat: Duration::from_secs(1), good_for: GOOD_FOR, lead_max: Duration::from_secs(4) }
    }
}

/// Until when the node's leases are surely held, as far as the last acknowledged renewal tells. Clones share it.
#[derive(Clone, Debug)]
pub struct LeaseClock {
    deadline: Arc<AtomicI64>,
}

impl LeaseClock {
    pub(super) fn new() -> Self {
        Self { deadline: Arc::new(AtomicI64::new(NO_LEASE)) }
    }

    /// Nothing is at stake: children live by our beat alone. Said when the last lease was given back and no renewal is
    /// under way; a later [`LeaseClock::renewed`] puts something at stake again.
    pub fn no_lease(&self) {
        self.deadline.store(NO_LEASE, Ordering::SeqCst);
    }

    /// A renewal *sent* at `sent_at` was acknowledged (a first claim counts): good until 12 s after the sending.
    /// An answer that comes late and out of order takes nothing back.
    pub fn renewed(&self, sent_at: BoottimeMs) {
        self.deadline.fetch_max(sent_at.saturating_add(millis(GOOD_FOR)), Ordering::SeqCst);
    }

    /// The deadline, or nothing when no lease is at stake.
    pub fn deadline(&self) -> Option<BoottimeMs> {
        Some(self.deadline.load(Ordering::SeqCst)).filter(|&at| at != NO_LEASE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_answer_takes_nothing_back() {
        let clock = LeaseClock::new();
        assert_eq!(clock.deadline(), None);
        clock.renewed(10_000);
        clock.renewed(5_000);
        assert_eq!(clock.deadline(), Some(22_000));
        clock.no_lease();
        assert_eq!(clock.deadline(), None);
    }
}
