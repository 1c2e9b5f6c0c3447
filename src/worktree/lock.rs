//! Locks across processes: one a project for its stores, one a session for its git directory. Never nested the other way
//! round (session first, then project).
//!
//! git that works under a lock gets the (empty) lock file as its standard input: it reads as an end of file, and a git
//! that outlives a killed agentpool still holds the lock, so nobody mistakes its lock files for stale ones.

use super::error::WorktreeError;
use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// How long a lock is waited for: longer than a first fetch of a large project may take.
const WAIT_MAX: Duration = Duration::from_secs(15 * 60);
/// First and longest pause between tries; a lock is mostly held for 5 to 40 ms.
const PAUSE: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(20));

/// A held lock; given back on drop.
pub(super) struct Lock(File);

impl Lock {
    /// Waits for the lock file at `path`, which is made when missing.
    ///
    /// # Errors
    /// [`WorktreeError::Timeout`] after 15 minutes.
    pub(super) async fn take(path: &Path) -> Result<Self, WorktreeError> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(WorktreeError::io(path))?;
        let start = Instant::now();
        let mut pause = PAUSE.0;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Self(file)),
                Err(TryLockError::Error(err)) => return Err(WorktreeError::io(path)(err)),
                Err(TryLockError::WouldBlock) if start.elapsed() > WAIT_MAX => {
                    return Err(WorktreeError::Timeout { what: "take a lock", secs: WAIT_MAX.as_secs() });
                }
                Err(TryLockError::WouldBlock) => tokio::time::sleep(pause).await,
            }
            pause = (pause * 2).min(PAUSE.1);
        }
    }

    /// The lock as a child's standard input.
    pub(super) fn as_stdin(&self) -> Stdio {
        self.0.try_clone().map_or_else(|_| Stdio::null(), Stdio::from)
    }
}
