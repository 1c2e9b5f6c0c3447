//! Keeps the leases of running turns alive, and tells each turn when its lease is gone or its cancel was asked. Renews only
//! what is registered, and what is registered ends with the turn's own future.

use super::task_source::{SourceError, TaskSource};
use crate::domain::measure;
use crate::domain::task::Lease;
use crate::domain::turn::{Stop, StopCause, StopForce};
use crate::failpoint::failpoint;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// A third of the lease's 15 s.
const RENEW_EVERY: Duration = Duration::from_secs(5);
/// After a failure.
const RENEW_AGAIN: Duration = Duration::from_secs(1);

/// Each lease with the way to stop its turn.
type Held = HashMap<Lease, Arc<watch::Sender<Option<Stop>>>>;

/// Every lease of the node. Cheap to clone.
#[derive(Clone, Default)]
pub struct Leases {
    held: Arc<Mutex<Held>>,
}

/// A lease that is renewed for as long as this value lives.
pub struct HeldLease {
    lease: Lease,
    leases: Leases,
}

impl Leases {
    /// Registers a lease. Stops for its turn go to `stop`.
    pub fn hold(&self, lease: Lease, stop: Arc<watch::Sender<Option<Stop>>>) -> HeldLease {
        self.lock().insert(lease, stop);
        HeldLease { lease, leases: self.clone() }
    }

    /// Every registered lease.
    pub fn all(&self) -> Vec<Lease> {
        self.lock().keys().copied().collect()
    }

    /// Asks the turn under a lease to stop.
    pub fn stop(&self, lease: Lease, stop: Stop) {
        if let Some(turn) = self.lock().get(&lease) {
            turn.send_modify(|standing| *standing = Some(Stop::merge(*standing, stop)));
        }
    }

    /// Asks every turn to stop.
    pub fn stop_all(&self, stop: Stop) {
        for lease in self.all() {
            self.stop(lease, stop);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        // No panic can leave the map half-changed.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Renews for ever; sooner again after a failure.
    ///
    /// # Cancel safety
    /// May be dropped at any point.
    pub async fn keep(self, source: Arc<dyn TaskSource>) {
        loop {
            let pause = if self.renew(source.as_ref()).await { RENEW_EVERY } else { RENEW_AGAIN };
            tokio::time::sleep(pause).await;
        }
    }

    /// One round; false when it failed and is to be repeated soon.
    pub async fn renew(&self, source: &dyn TaskSource) -> bool {
        let asked = self.all();
        if asked.is_empty() {
            return true;
        }
        let begun = std::time::Instant::now();
        match source.renew(&asked).await {
            Ok(renewed) => {
                metrics::histogram!(measure::RENEW_SECONDS).record(begun.elapsed().as_secs_f64());
                failpoint("renewed").await;
                for lease in asked {
                    match renewed.iter().find(|r| r.session == lease.session && r.fence == lease.fence) {
                        None => {
                            metrics::counter!(measure::LEASES_LOST).increment(1);
                            self.stop(lease, Stop { cause: StopCause::LeaseLost, force: StopForce::Ask });
                        }
                        Some(held) if held.cancel_requested => {
                            self.stop(lease, Stop { cause: StopCause::UserCancel, force: StopForce::Ask });
                        }
                        Some(_) => {}
                    }
                }
                true
            }
            // Nobody steals what it has not itself seen unchanged for a whole lease, so an outage costs nothing here.
            Err(SourceError::Unavailable(error)) => {
                tracing::warn!(%error, "leases were not renewed; trying again");
                false
            }
            Err(error) => {
                tracing::error!(%error, "leases were not renewed");
                false
            }
        }
    }
}

impl HeldLease {
    /// Which.
    pub fn lease(&self) -> Lease {
        self.lease
    }
}

impl Drop for HeldLease {
    fn drop(&mut self) {
        self.leases.lock().remove(&self.lease);
    }
}
