//! The last words of a child: a ring of its standard error, and a copy to somewhere else where one is asked for.
//! Keeps no more than the ring and never makes the child wait.

use crate::domain::text;
use std::collections::VecDeque;
use std::io::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How much is kept, in bytes.
pub(super) const TAIL_BYTES: usize = 64 << 10;

/// Shared between the drain that fills it and whoever reads it.
#[derive(Clone, Default)]
pub(super) struct Tail {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    ring: VecDeque<u8>,
    copy: Option<Box<dyn Write + Send>>,
}

impl Tail {
    pub(super) fn push(&self, bytes: &[u8]) {
        let mut inner = self.lock();
        let kept = &bytes[bytes.len().saturating_sub(TAIL_BYTES)..];
        let surplus = (inner.ring.len() + kept.len()).saturating_sub(TAIL_BYTES);
        inner.ring.drain(..surplus);
        inner.ring.extend(kept);
        inner.write_copy(bytes);
    }

    /// Sends what comes to `sink` as well, beginning with what the ring holds now. A sink that fails is given up.
    pub(super) fn copy_to(&self, sink: Box<dyn Write + Send>) {
        let mut inner = self.lock();
        inner.copy = Some(sink);
        let so_far = inner.ring.iter().copied().collect::<Vec<_>>();
        inner.write_copy(&so_far);
    }

    pub(super) fn read(&self) -> String {
        text::clean_bytes(self.lock().ring.make_contiguous())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn write_copy(&mut self, bytes: &[u8]) {
        if let Some(sink) = &mut self.copy
            && let Err(error) = sink.write_all(bytes)
        {
            tracing::warn!(%error, "a copy of a child's standard error was given up");
            self.copy = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_bytes_are_kept_and_they_are_clean() {
        let tail = Tail::default();
        tail.push(&vec![b'a'; TAIL_BYTES]);
        tail.push(b"\0z");
        let text = tail.read();
        assert!(text.ends_with("a\u{FFFD}z"));
        assert_eq!(text.chars().count(), TAIL_BYTES);
        tail.push(&vec![b'b'; 3 * TAIL_BYTES]);
        assert_eq!(tail.read(), "b".repeat(TAIL_BYTES));
    }
}
