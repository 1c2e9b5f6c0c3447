//! Conversations that were opened before their first prompt, in a worktree that was made before it: each holds a process that was
//! ready, waits for its one taker, and is given back when none comes. Starts no process; prompts nothing.

use super::life::Life;
use super::open;
use super::roster::Live;
use super::{Sharing, unclaimed::Unclaimed};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Mutex as AsyncMutex;

/// How long one waits for its first prompt: somebody who made a session and types.
const WAIT_MAX: Duration = Duration::from_mins(10);

/// Locked while it is opened, so that whoever comes for it waits instead of opening another.
type Place = Arc<AsyncMutex<Option<Live>>>;

/// What was opened ahead, oldest first.
#[derive(Default)]
pub(super) struct Ahead {
    places: Mutex<VecDeque<(PathBuf, Place)>>,
}

impl Ahead {
    /// The conversation that waits in a worktree, or is being opened there; it is the caller's from here on.
    pub(super) async fn take(&self, worktree: &Path) -> Option<Live> {
        let place = self.remove(|(path, _)| path == worktree)?;
        let live = place.lock().await.take();
        live.filter(|live| !live.process.is_lost())
    }

    /// Process ids of those that wait.
    pub(super) fn pids(&self) -> Vec<u32> {
        let places = self.places();
        let waiting = places.iter().filter_map(|(_, place)| place.try_lock().ok()?.as_ref().map(pid));
        waiting.collect()
    }

    /// Gives back all that wait.
    pub(super) async fn give_back(&self, life: &Life) {
        let places = std::mem::take(&mut *self.places());
        for (_, place) in places {
            give_back(life, &place).await;
        }
    }

    fn remove(&self, wanted: impl Fn(&(PathBuf, Place)) -> bool) -> Option<Place> {
        let mut places = self.places();
        let at = places.iter().position(wanted)?;
        places.remove(at).map(|(_, place)| place)
    }

    fn places(&self) -> MutexGuard<'_, VecDeque<(PathBuf, Place)>> {
        // No panic can leave the list half-changed.
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn pid(live: &Live) -> u32 {
    live.process.pid
}

async fn give_back(life: &Life, place: &Place) {
    if let Some(live) = place.lock().await.take() {
        life.take(&live.conversation.id);
        life.let_go(live).await;
    }
}

/// Opens a conversation in a worktree, in a process that is ready; where none is, nothing is done. As many wait as there may be
/// spare processes, and the oldest makes room.
///
/// # Cancel safety
/// May be dropped at any point: the process is ended.
pub(super) async fn open_ahead(life: &Arc<Life>, worktree: &Path) {
    if life.is_over() || life.config().sharing == Sharing::Shared {
        return;
    }
    let Some(process) = life.take_ready() else { return };
    life.refill_later();
    let place = Place::default();
    let mut opening = Arc::clone(&place).try_lock_owned().expect("nobody else knows of it");
    let (before, oldest) = {
        let before = life.ahead().remove(|(path, _)| path == worktree);
        let mut places = life.ahead().places();
        let oldest = (places.len() >= life.config().spare).then(|| places.pop_front()).flatten();
        places.push_back((worktree.to_owned(), Arc::clone(&place)));
        (before, oldest)
    };
    for place in before.into_iter().chain(oldest.map(|(_, place)| place)) {
        give_back(life, &place).await;
    }
    match open::begin(life, Unclaimed::own(process), worktree).await {
        Ok(live) => *opening = Some(live),
        Err(error) => {
            tracing::debug!(agent = life.config().name, %error, "no conversation was opened ahead");
            life.ahead().remove(|(_, other)| Arc::ptr_eq(other, &place));
            return;
        }
    }
    drop(opening);
    let life = Arc::clone(life);
    life.tracker.clone().spawn(async move {
        tokio::select! {
            () = tokio::time::sleep(WAIT_MAX) => {}
            // Its process ends with the others.
            () = life.over() => return,
        }
        if life.ahead().remove(|(_, other)| Arc::ptr_eq(other, &place)).is_some() {
            give_back(&life, &place).await;
        }
    });
}
