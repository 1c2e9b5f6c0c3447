//! A process between its start and its first conversation, so that a caller that goes away in between leaves none behind.

use super::process::Process;
use crate::domain::turn::StopForce;
use std::sync::Arc;

/// A process that no conversation has claimed yet; ended when it is dropped so.
pub(super) struct Unclaimed {
    process: Arc<Process>,
    keep: bool,
}

impl Unclaimed {
    /// One that was started or kept ready for a single conversation.
    pub(super) fn own(process: Arc<Process>) -> Self {
        Self { process, keep: false }
    }

    /// One that serves others too.
    pub(super) fn shared(process: Arc<Process>) -> Self {
        Self { process, keep: true }
    }

    pub(super) fn process(&self) -> &Arc<Process> {
        &self.process
    }

    /// A conversation has it now.
    pub(super) fn claimed(mut self) -> Arc<Process> {
        self.keep = true;
        Arc::clone(&self.process)
    }
}

impl Drop for Unclaimed {
    fn drop(&mut self) {
        if !self.keep {
            self.process.stop(StopForce::Terminate);
        }
    }
}
