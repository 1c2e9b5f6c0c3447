//! Keeps the leases of running turns alive, and tells each turn when its lease is gone or its cancel was asked. Renews only
//! what is registered, and what is registered ends with the turn's own future.

use super::task_source::{SourceError, TaskSource};
use crate::domain::ids::TaskId;
use crate::domain::task::Lease;
use crate::domain::turn::{Stop, StopCause, StopForce};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// A third of the lease's 15 s.
const RENEW_EVERY: Duration = Duration::from_secs(5);

/// Every lease of the node. Cheap to clone.
#[derive(Clone, Default)]
pub struct Leases {
    held: Arc<Mutex<HashMap<TaskId, Held>>>,
}

struct Held {
    lease: Lease,
    stop: Arc<watch::Sender<Option<Stop>>>,
}

/// A lease that is renewed for as long as this value lives.
pub struct HeldLease {
    lease: Lease,
    leases: Leases,
}

impl Leases {
    /// Registers a lease. Stops for its turn go to `stop`.
    pub fn hold(&self, lease: Lease, stop: Arc<watch::Sender<Option<Stop>>>) -> HeldLease {
        self.lock().insert(lease.task, Held { lease, stop });
        HeldLease { lease, leases: self.clone() }
    }

    /// Every registered lease.
    pub fn all(&self) -> Vec<Lease> {
        self.lock().values().map(|held| held.lease).collect()
    }

    /// Asks the turn of a task to stop.
    pub fn stop(&self, task: TaskId, stop: Stop) {
        if let Some(held) = self.lock().get(&task) {
            held.stop.send_modify(|standing| *standing = Some(Stop::merge(*standing, stop)));
        }
    }

    /// Asks every turn to stop.
    pub fn stop_all(&self, stop: Stop) {
        for lease in self.all() {
            self.stop(lease.task, stop);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TaskId, Held>> {
        // No panic can leave the map half-changed.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Renews until `stop`; its owner awaits it.
    pub async fn keep(self, source: Arc<dyn TaskSource>, stop: CancellationToken) {
        let mut every = tokio::time::interval(RENEW_EVERY);
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = every.tick() => self.renew(source.as_ref()).await,
            }
        }
    }

    /// One round.
    pub async fn renew(&self, source: &dyn TaskSource) {
        let asked = self.all();
        if asked.is_empty() {
            return;
        }
        match source.renew(&asked).await {
            Ok(renewed) => {
                for lease in asked {
                    match renewed.iter().find(|r| r.session == lease.session && r.fence == lease.fence) {
                        None => {
                            self.stop(lease.task, Stop { cause: StopCause::LeaseLost, force: StopForce::Ask })
                        }
                        Some(held) if held.cancel_requested => {
                            self.stop(
                                lease.task,
                                Stop { cause: StopCause::UserCancel, force: StopForce::Ask },
                            );
                        }
                        Some(_) => {}
                    }
                }
            }
            // Nobody steals what it has not itself seen unchanged for a whole lease, so an outage costs nothing here.
            Err(SourceError::Unavailable(error)) => {
                tracing::warn!(%error, "leases were not renewed; trying again")
            }
            Err(error) => tracing::error!(%error, "leases were not renewed"),
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
        let mut held = self.leases.lock();
        // A later claim of the same task has a newer fence and must stay.
        if held.get(&self.lease.task).is_some_and(|now| now.lease == self.lease) {
            held.remove(&self.lease.task);
        }
    }
}
