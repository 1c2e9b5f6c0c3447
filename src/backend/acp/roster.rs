//! Which conversations are open in which process, and which were closed for good. Pure bookkeeping.

use super::conversation::Conversation;
use super::process::Process;
use super::settings::Base;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex};

/// Closed conversations that are remembered; the rows remember the rest.
const CLOSED_MAX: usize = 10_000;

/// A conversation that can be prompted.
#[derive(Clone)]
pub(super) struct Live {
    pub(super) process: Arc<Process>,
    pub(super) conversation: Arc<Conversation>,
    /// What holds where a task wishes nothing.
    pub(super) base: Arc<Base>,
    /// Tool calls that a cancelled turn left open.
    pub(super) stale: Arc<Mutex<HashSet<String>>>,
}

#[derive(Default)]
pub(super) struct Roster {
    live: HashMap<String, Live>,
    closed: VecDeque<String>,
}

impl Roster {
    /// The conversation, while its process lives.
    pub(super) fn live(&self, id: &str) -> Option<Live> {
        self.live.get(id).filter(|live| !live.process.is_lost()).cloned()
    }

    pub(super) fn opened(&mut self, live: Live) {
        self.live.insert(live.conversation.id.clone(), live);
    }

    /// No longer open here.
    pub(super) fn take(&mut self, id: &str) -> Option<Live> {
        self.live.remove(id)
    }

    /// What was open in a process that is gone.
    pub(super) fn forget(&mut self, process: &Arc<Process>) {
        self.live.retain(|_, live| !Arc::ptr_eq(&live.process, process));
    }

    /// Not to be gone on with.
    pub(super) fn close(&mut self, id: &str) {
        if self.closed.len() >= CLOSED_MAX {
            self.closed.pop_front();
        }
        self.closed.push_back(id.to_owned());
    }

    pub(super) fn is_closed(&self, id: &str) -> bool {
        self.closed.iter().any(|closed| closed == id)
    }
}
