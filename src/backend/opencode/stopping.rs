//! Stopping what runs in a conversation: asked for, abandoned, or left over. An abort names the conversation and no
//! turn, so none may still be on its way when the next turn begins. Decides nothing about ends.

use super::in_use::InUse;
use crate::backend::BackendError;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::OwnedMutexGuard;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

/// Between two aborts: one that comes before the run has begun stops nothing.
const ABORT_EVERY: Duration = Duration::from_secs(1);
/// Between two looks at a session that should fall idle.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// How long a conversation may take to fall idle.
pub(super) const SETTLE_DEADLINE: Duration = Duration::from_secs(10);
/// How long an abort that is on its way is awaited.
const LAST_ABORT: Duration = Duration::from_secs(3);

/// A conversation on a server.
#[derive(Clone)]
pub(super) struct Place {
    pub server: InUse,
    pub directory: String,
    pub session: String,
}

/// Waits until the conversation is idle, stopping what may still run in it.
///
/// # Errors
/// [`BackendError::Lost`] when it does not become idle in time.
pub(super) async fn settle(place: &Place, bound: Duration) -> Result<(), BackendError> {
    let deadline = Instant::now() + bound;
    loop {
        let statuses = place.server.unless_lost(place.server.client.statuses(&place.directory)).await??;
        if statuses.get(&place.session).is_none_or(|status| status.kind == "idle") {
            return Ok(());
        }
        if Instant::now() >= deadline {
            let session = &place.session;
            return Err(BackendError::Lost(format!(
                "{session} is still busy {} s after an abort",
                bound.as_secs()
            )));
        }
        place.server.unless_lost(place.server.client.abort(&place.directory, &place.session)).await?.ok();
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// A turn that nobody waits for any more is stopped in the background, in a task that the server's owner awaits.
pub(super) struct Abandoned {
    left: Option<(Place, OwnedMutexGuard<()>)>,
    runtime: Handle,
}

impl Abandoned {
    /// Armed: whoever drops it leaves a turn behind.
    pub fn new(place: Place, lane: OwnedMutexGuard<()>) -> Self {
        Self { left: Some((place, lane)), runtime: Handle::current() }
    }

    /// The turn was seen to end.
    pub fn over(&mut self) {
        self.left = None;
    }
}

impl Drop for Abandoned {
    fn drop(&mut self) {
        let Some((place, lane)) = self.left.take() else { return };
        if place.server.is_lost() {
            return;
        }
        let tracker = place.server.tracker.clone();
        tracker.spawn_on(
            async move {
                // A prompt may be on its way: it is aborted again until the session has been idle for a while.
                let quiet = async {
                    place.server.client.abort(&place.directory, &place.session).await.ok();
                    tokio::time::sleep(ABORT_EVERY).await;
                    settle(&place, SETTLE_DEADLINE).await
                };
                let stopped = tokio::select! {
                    stopped = quiet => stopped,
                    reason = place.server.lost() => Err(BackendError::Lost(reason)),
                };
                if let Err(error) = stopped {
                    tracing::debug!(session = %place.session, %error, "an abandoned turn was not seen to stop");
                }
                drop(lane);
            },
            &self.runtime,
        );
    }
}

/// Aborts again and again until the turn is over.
pub(super) struct Aborting {
    task: AbortOnDropHandle<()>,
    over: CancellationToken,
    /// When waiting for the end is over; only comes nearer.
    pub deadline: Instant,
}

impl Aborting {
    /// Begins.
    pub fn start(place: Place, deadline: Instant) -> Self {
        let over = CancellationToken::new();
        let until = over.clone();
        let tracker = place.server.tracker.clone();
        let task = tracker.spawn(async move {
            while !until.is_cancelled() && !place.server.is_lost() && Instant::now() < deadline + ABORT_EVERY
            {
                if let Err(error) = place.server.client.abort(&place.directory, &place.session).await {
                    tracing::debug!(session = %place.session, %error, "an abort was not taken");
                }
                tokio::select! {
                    () = until.cancelled() => {}
                    () = tokio::time::sleep(ABORT_EVERY) => {}
                }
            }
        });
        Self { task: AbortOnDropHandle::new(task), over, deadline }
    }

    /// Returns when no abort is on its way, so that none can hit the next turn.
    pub async fn finish(self) {
        self.over.cancel();
        tokio::time::timeout(LAST_ABORT, self.task).await.ok();
    }
}
