//! Shows that the event loop of a node turns, and remembers when it stood still: a stopped process, a suspended machine, a
//! call that blocks every thread. Counts on `CLOCK_BOOTTIME`, which goes on through all of them. Stops nothing by itself.

use crate::process::{BoottimeMs, boottime_ms};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// The loop beats at least this often.
pub const BEAT: Duration = Duration::from_secs(1);
/// A gap from which on shims may have ended agents: they begin 8 s after our last word, which is a second old at most.
const STANDSTILL_MIN_MS: i64 = 6_000;
/// From here on the watchdog complains.
const LATE: Duration = Duration::from_secs(2);

/// The present moment, for [`Pulse::stood_still_after`].
pub fn now() -> BoottimeMs {
    boottime_ms()
}

/// The heartbeat of one event loop. Clones share it.
#[derive(Clone, Debug)]
pub struct Pulse {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    last_beat: AtomicI64,
    /// When the last standstill ended; 0: there was none.
    stood_until: AtomicI64,
}

impl Default for Pulse {
    fn default() -> Self {
        Self {
            inner: Arc::new(Inner {
                last_beat: AtomicI64::new(boottime_ms()),
                stood_until: AtomicI64::new(0),
            }),
        }
    }
}

impl Pulse {
    /// The loop turns.
    pub fn beat(&self) {
        let now = boottime_ms();
        let before = self.inner.last_beat.swap(now, Ordering::SeqCst);
        if now - before >= STANDSTILL_MIN_MS {
            self.inner.stood_until.store(now, Ordering::SeqCst);
            tracing::warn!(
                gap_ms = now - before,
                "the node stood still; agents may have been ended by their shims"
            );
        }
    }

    /// Since the last beat.
    pub fn age(&self) -> Duration {
        let age_ms = boottime_ms() - self.inner.last_beat.load(Ordering::SeqCst);
        Duration::from_millis(u64::try_from(age_ms).unwrap_or(0))
    }

    /// Did the node stand still, or does it, at any moment after `since`?
    pub fn stood_still_after(&self, since: BoottimeMs) -> bool {
        let age_ms = boottime_ms() - self.inner.last_beat.load(Ordering::SeqCst);
        age_ms >= STANDSTILL_MIN_MS || self.inner.stood_until.load(Ordering::SeqCst) > since
    }
}

/// A thread of its own that says when the loop is late, since a runtime that is blocked cannot say so itself. Ends with its value.
pub struct Watchdog {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watchdog {
    /// Watches a pulse.
    ///
    /// # Errors
    /// When the system refuses the thread.
    pub fn over(pulse: Pulse) -> std::io::Result<Self> {
        let over = Arc::new(AtomicBool::new(false));
        let ends = over.clone();
        let thread =
            std::thread::Builder::new().name("watchdog".to_owned()).spawn(move || watch(&pulse, &ends))?;
        Ok(Self { over, thread: Some(thread) })
    }
}

fn watch(pulse: &Pulse, over: &AtomicBool) {
    let mut told = false;
    while !over.load(Ordering::SeqCst) {
        let age = pulse.age();
        if age < BEAT + LATE {
            told = false;
        } else if !std::mem::replace(&mut told, true) {
            tracing::error!(
                late_ms = age.as_millis(),
                "the event loop does not turn: a call blocks the threads of the node"
            );
        }
        std::thread::park_timeout(BEAT / 2);
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // It has nothing to fail with.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_remembered_and_a_beat_in_time_is_none() {
        let pulse = Pulse::default();
        let start = boottime_ms();
        pulse.beat();
        assert!(!pulse.stood_still_after(start));
        pulse.inner.last_beat.store(start - STANDSTILL_MIN_MS, Ordering::SeqCst);
        assert!(pulse.stood_still_after(start), "it still does: whoever asks first must know");
        pulse.beat();
        assert!(pulse.stood_still_after(start - 1), "it did");
        assert!(!pulse.stood_still_after(boottime_ms()), "a turn that began afterwards saw nothing of it");
    }
}
