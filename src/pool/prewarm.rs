//! What is made ready off the way of whoever needs it next: a few at a time, each bounded, none of it waited for.

use crate::backend::{AgentBackend, Occasion};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// At the same time. Beyond, a turn is as cold as without it: many at once would slow down the turns that run.
const AT_ONCE_MAX: usize = 4;
/// Whoever wanted it has it by then, or never will.
const DEADLINE: Duration = Duration::from_secs(60);

pub(super) struct Prewarming {
    places: Arc<Semaphore>,
    tracker: TaskTracker,
    over: CancellationToken,
}

impl Default for Prewarming {
    fn default() -> Self {
        Self {
            places: Arc::new(Semaphore::new(AT_ONCE_MAX)),
            tracker: TaskTracker::new(),
            over: CancellationToken::new(),
        }
    }
}

impl Prewarming {
    /// Returns at once.
    pub(super) fn begin(&self, backend: &Arc<dyn AgentBackend>, worktree: &Path, occasion: Occasion) {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else { return };
        let (backend, worktree, over) = (Arc::clone(backend), worktree.to_owned(), self.over.clone());
        self.tracker.spawn(async move {
            tokio::select! {
                () = backend.prewarm(&worktree, occasion) => {}
                () = tokio::time::sleep(DEADLINE) => {
                    tracing::debug!(worktree = %worktree.display(), "it was not made ready in time");
                }
                () = over.cancelled() => {}
            }
            drop(place);
        });
    }

    /// Returns when nothing is under way any more.
    pub(super) async fn end(&self) {
        self.over.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }
}
