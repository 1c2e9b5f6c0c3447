//! Who is at work in a worktree: a turn, or a person who takes files back. One at a time, within this process; a worktree is
//! worked in by one process only. Knows no files.

use crate::domain::ids::SessionId;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use tokio::sync::OwnedMutexGuard;

/// The places, of those worktrees that somebody is at work in or waits for.
#[derive(Clone, Debug, Default)]
pub(super) struct Holds(Arc<Mutex<HashMap<SessionId, Weak<tokio::sync::Mutex<()>>>>>);

/// A worktree is held until this is dropped.
#[derive(Debug)]
pub struct Hold {
    _place: OwnedMutexGuard<()>,
}

impl Holds {
    pub(super) async fn take(&self, session: SessionId) -> Hold {
        Hold { _place: self.place(session).lock_owned().await }
    }

    pub(super) fn try_take(&self, session: SessionId) -> Option<Hold> {
        Some(Hold { _place: self.place(session).try_lock_owned().ok()? })
    }

    fn place(&self, session: SessionId) -> Arc<tokio::sync::Mutex<()>> {
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // As many as turns run: a walk over them is cheaper than a guard that cleans up behind itself.
        places.retain(|_, place| place.strong_count() > 0);
        if let Some(place) = places.get(&session).and_then(Weak::upgrade) {
            return place;
        }
        let place = Arc::default();
        places.insert(session, Arc::downgrade(&place));
        place
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_worktree_is_held_by_one_and_is_free_with_its_end() {
        let holds = Holds::default();
        let (one, other) = (SessionId(uuid::Uuid::now_v7()), SessionId(uuid::Uuid::now_v7()));
        let held = holds.take(one).await;
        assert!(holds.try_take(one).is_none());
        assert!(holds.try_take(other).is_some(), "another session's is not held by it");
        drop(held);
        assert!(holds.try_take(one).is_some());
        holds.place(other);
        assert_eq!(holds.0.lock().expect("nobody panicked").len(), 1, "nothing is kept of those that went");
    }
}
