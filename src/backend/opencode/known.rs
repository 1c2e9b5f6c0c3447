//! What is known of conversations without asking the server, which costs a turn some milliseconds each time. In doubt nothing is
//! known. It lives and dies with one server, so that nothing is carried over from another.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The conversations that were opened on one server.
#[derive(Debug, Default)]
pub(super) struct Known {
    conversations: Mutex<HashMap<String, Rest>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rest {
    /// Something may run in it, or it may be gone.
    Unclear,
    /// Its last turn was ours, was seen to complete and the conversation to be idle after it, and nobody asked it to stop.
    Quiet,
}

impl Known {
    /// Remembers that a conversation was opened here; true if it already was.
    pub fn was_opened(&self, session: &str) -> bool {
        let mut known = self.lock();
        let before = known.contains_key(session);
        known.entry(session.to_owned()).or_insert(Rest::Unclear);
        before
    }

    /// True when it is surely there and idle.
    pub fn is_quiet(&self, session: &str) -> bool {
        self.lock().get(session) == Some(&Rest::Quiet)
    }

    /// A turn begins: until it is seen to end well, nothing is known. True when the conversation was quiet until now.
    pub fn wake(&self, session: &str) -> bool {
        self.lock().insert(session.to_owned(), Rest::Unclear) == Some(Rest::Quiet)
    }

    /// A turn was seen to end well, unless the conversation was forgotten meanwhile.
    pub fn rest(&self, session: &str) {
        if let Some(known) = self.lock().get_mut(session) {
            *known = Rest::Quiet;
        }
    }

    /// The instance behind it is let go.
    pub fn forget(&self, session: &str) {
        self.lock().remove(session);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Rest>> {
        // No panic can leave the map half-changed.
        self.conversations.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_conversation_whose_last_turn_ended_well_is_quiet() {
        let known = Known::default();
        assert!(!known.was_opened("a") && known.was_opened("a"));
        assert!(!known.is_quiet("a"));
        assert!(!known.wake("a"));
        known.rest("a");
        assert!(known.is_quiet("a"));
        assert!(known.wake("a"), "it was");
        assert!(!known.is_quiet("a"), "a turn runs, or was lost from sight");
        known.rest("a");
        known.forget("a");
        assert!(!known.is_quiet("a") && !known.was_opened("a"));
        known.forget("a");
        known.rest("a");
        assert!(!known.is_quiet("a"), "what was let go in the middle of a turn is not known after it");
    }
}
