//! The warm cache: one slot an agent session, one backend an agent. Everything here can be lost at any moment; the rows know.
//! Never reads the queue, never decides whether a task is tried again.

mod counters;
pub mod eviction;
mod memory;
mod parking;
mod prewarm;
mod slot;
mod summary;

pub use counters::{Counts, Times};
pub use memory::{Held, Scales, Weights};
pub use parking::PARKED_MAX;
pub use slot::SlotGuard;
pub use summary::{PoolSummary, SlotSummary};

use crate::backend::{AgentBackend, AgentSessionHandle, BackendError, BackendState, Occasion};
use crate::domain::agent::AgentName;
use crate::domain::catalogue::Catalogue;
use crate::domain::session::SessionKey;
use counters::Counters;
use eviction::{Decision, Limits, Reason, SlotView, Snapshot, Spares, Verdict};
use memory::{Memory, Processes};
use parking::Parking;
use prewarm::Prewarming;
use slot::Slot;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// The pool of a node. Cheap to clone.
#[derive(Clone)]
pub struct AgentPool {
    inner: Arc<Inner>,
}

struct Inner {
    backends: BTreeMap<AgentName, Arc<dyn AgentBackend>>,
    slots: Mutex<HashMap<SessionKey, Arc<Slot>>>,
    parking: Parking,
    limits: Limits,
    counters: Arc<Counters>,
    memory: Memory,
    prewarming: Prewarming,
    shortage: Mutex<Shortage>,
    given_back: Arc<Notify>,
}

/// How short memory was at the last sweep.
#[derive(Clone, Copy, Default)]
struct Shortage {
    /// What cannot be given back of what is too much.
    over_bytes: u64,
    /// What spares held that were given back for it.
    withheld_bytes: Option<u64>,
}

impl AgentPool {
    /// A pool over these backends, whose processes are weighed on these scales.
    pub fn new(
        backends: BTreeMap<AgentName, Arc<dyn AgentBackend>>,
        limits: Limits,
        scales: Arc<dyn Scales>,
    ) -> Self {
        Self {
            inner: Arc::new(Inner {
                backends,
                slots: Mutex::default(),
                parking: Parking::default(),
                limits,
                counters: Arc::default(),
                memory: Memory::new(scales),
                prewarming: Prewarming::default(),
                shortage: Mutex::default(),
                given_back: Arc::default(),
            }),
        }
    }

    /// The slot of a key, for one turn at a time: a second caller waits until the first gives it back.
    /// `None` when no backend of that agent is on this node.
    ///
    /// # Cancel safety
    /// May be dropped while it waits.
    pub async fn check_out(&self, key: &SessionKey) -> Option<SlotGuard> {
        let backend = self.inner.backends.get(&key.agent)?.clone();
        loop {
            let slot = self.slots().entry(key.clone()).or_insert_with(|| self.new_slot(key)).clone();
            let guard = slot.lock(backend.clone()).await;
            // The sweep may have taken the slot out of the map while we waited: then it is nobody's, and a new one is made.
            if self.slots().get(key).is_some_and(|now| Arc::ptr_eq(now, guard.slot())) {
                return Some(guard);
            }
        }
    }

    /// A worktree was made in which that agent will be prompted. Returns at once, and promises nothing.
    pub fn prewarm(&self, agent: &AgentName, worktree: &Path, occasion: Occasion) {
        if let Some(backend) = self.inner.backends.get(agent) {
            self.inner.prewarming.begin(backend, worktree, occasion);
        }
    }

    /// Agents that may be asked to run a turn now.
    pub fn runnable(&self) -> Vec<AgentName> {
        let now = Instant::now();
        self.inner
            .backends
            .iter()
            .filter(|(name, _)| self.inner.parking.left(name, now).is_none())
            .filter(|(_, backend)| backend.health().state != BackendState::CircuitOpen)
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// The agent runs no further turn for so long; turns that run already go on.
    pub fn park(&self, agent: &AgentName, wait: Duration) {
        self.inner.parking.park(agent, wait, Instant::now());
    }

    /// When the next parked agent may run again, or `latest` if that is sooner. Nobody is woken then.
    pub fn next_unparked(&self, latest: Instant) -> Instant {
        self.inner.parking.next_end(Instant::now()).map_or(latest, |at| at.min(latest))
    }

    /// One round of eviction: the pure decision, then release under each slot's own lock. Returns what was decided.
    pub async fn sweep(&self) -> Vec<(SessionKey, Verdict)> {
        let held = self.held().await;
        let now = Instant::now();
        let weighed = |view: SlotView| SlotView {
            bytes: held.by_slot.get(&view.key).copied().unwrap_or_default(),
            ..view
        };
        let pool = Snapshot {
            slots: self.slots().values().map(|slot| weighed(slot.view(now))).collect(),
            total_bytes: held.total,
            spare_bytes: held.spares,
            withheld_bytes: self.shortage().withheld_bytes,
        };
        let decision = eviction::decide(&pool, &self.inner.limits);
        self.tell_of_shortage(&decision, held.total);
        self.spares(decision.spares, held.spares).await;
        for (key, verdict) in &decision.verdicts {
            if let Verdict::Evict(reason) = verdict
                && self.evict(key, *reason).await
            {
                self.inner.memory.has_changed();
            }
        }
        decision.verdicts
    }

    /// What agents hold now, or held two seconds ago at most. Looks at `/proc` off the async threads.
    pub async fn held(&self) -> Arc<Held> {
        self.inner.memory.look(|| self.processes()).await
    }

    fn processes(&self) -> Processes {
        let slots: Vec<(SessionKey, AgentSessionHandle)> =
            self.slots().values().filter_map(|slot| slot.warm_handle()).collect();
        let mut processes = Processes::default();
        for (name, backend) in &self.inner.backends {
            let health = backend.health();
            processes.spares.extend(health.spares);
            processes.by_backend.insert(name.clone(), health.pids);
        }
        for (key, handle) in slots {
            let (Some(backend), Some(all)) =
                (self.inner.backends.get(&key.agent), processes.by_backend.get_mut(&key.agent))
            else {
                continue;
            };
            let own = backend.held_by(&handle);
            // What runs beside the agents themselves is told by its conversation only.
            all.extend(own.iter().filter(|pid| !all.contains(pid)).copied().collect::<Vec<_>>());
            processes.by_slot.insert(key, own);
        }
        processes
    }

    async fn spares(&self, decided: Spares, held_bytes: u64) {
        match decided {
            Spares::Leave => {}
            Spares::GiveBack => {
                tracing::info!(mb = held_bytes >> 20, "spare processes are given back: memory is short");
                for backend in self.inner.backends.values() {
                    backend.give_back_spares().await;
                }
                self.shortage().withheld_bytes = Some(held_bytes);
                self.inner.memory.has_changed();
            }
            Spares::Allow => {
                self.shortage().withheld_bytes = None;
                self.inner.backends.values().for_each(|backend| backend.allow_spares());
            }
        }
    }

    /// Once when it begins and once when it is over, not at each round.
    fn tell_of_shortage(&self, decision: &Decision, total_bytes: u64) {
        let before = std::mem::replace(&mut self.shortage().over_bytes, decision.over_bytes);
        let budget_mb = self.inner.limits.memory_bytes >> 20;
        if before == 0 && decision.over_bytes > 0 {
            tracing::warn!(
                mb = total_bytes >> 20,
                budget_mb,
                over_mb = decision.over_bytes >> 20,
                "agents hold more than pool.memory_mb, and what is too much is in use or shared: it stays"
            );
        } else if before > 0 && decision.over_bytes == 0 {
            tracing::info!(
                mb = total_bytes >> 20,
                budget_mb,
                "agents hold no more than pool.memory_mb again"
            );
        }
    }

    fn shortage(&self) -> MutexGuard<'_, Shortage> {
        // Two numbers.
        self.inner.shortage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Resolves when a turn has given its slot back since the last call: the pool may be over its limit now.
    pub async fn given_back(&self) {
        self.inner.given_back.notified().await;
    }

    /// Gives back what the slot's conversation holds, unless a turn has taken it meanwhile. The conversation stays resumable.
    pub async fn evict(&self, key: &SessionKey, reason: Reason) -> bool {
        let (Some(slot), Some(backend)) =
            (self.slots().get(key).cloned(), self.inner.backends.get(&key.agent))
        else {
            return false;
        };
        let Some(mut guard) = slot.try_lock(backend.clone()) else { return false };
        guard.release().await;
        self.slots().remove(key);
        self.inner.counters.evicted(reason);
        true
    }

    /// Ends the conversation that is warm, if one is, for good: waits for a turn that has the slot, then closes.
    pub async fn close(&self, key: &SessionKey) {
        let Some(mut guard) = self.check_out(key).await else { return };
        if let Some(handle) = guard.take_handle() {
            end(&guard, &handle).await;
        }
        self.slots().remove(key);
    }

    /// The same for a conversation that is known from its row: it ends also when it was given back or is of an earlier
    /// start. A backend that does not run is not started for it. What is warm goes before what is stored.
    pub async fn close_stored(&self, stored: AgentSessionHandle) {
        let key = stored.key.clone();
        let Some(mut guard) = self.check_out(&key).await else { return };
        let handle = guard.take_handle().unwrap_or(stored);
        end(&guard, &handle).await;
        self.slots().remove(&key);
    }

    /// Ends every backend at once; one that panics or hangs past `grace` and 10 s more does not hold up the others.
    pub async fn dispose(&self, grace: Duration) {
        self.slots().clear();
        self.inner.prewarming.end().await;
        let mut ending = JoinSet::new();
        for (name, backend) in &self.inner.backends {
            let (name, backend) = (name.clone(), backend.clone());
            ending.spawn(async move {
                let within = grace + Duration::from_secs(10);
                if tokio::time::timeout(within, backend.dispose(grace)).await.is_err() {
                    tracing::error!(agent = %name, "the backend did not end in time; its shims will");
                }
            });
        }
        while let Some(ended) = ending.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a backend failed while it was disposed of");
            }
        }
    }

    /// What an agent offers; `None` when no backend of it is on this node.
    ///
    /// # Errors
    /// As [`AgentBackend::catalogue`].
    ///
    /// # Cancel safety
    /// May be dropped at any point.
    pub async fn catalogue(&self, agent: &AgentName) -> Option<Result<Catalogue, BackendError>> {
        let backend = self.inner.backends.get(agent)?;
        Some(backend.catalogue().await)
    }

    /// What is there, from memory alone. What agents hold is as [`AgentPool::held`] last found it.
    pub fn summary(&self) -> PoolSummary {
        let now = Instant::now();
        let mut slots: Vec<SlotSummary> = self.slots().values().map(|slot| slot.summary(now)).collect();
        slots.sort_by(|a, b| a.key.cmp(&b.key));
        let busy = slots.iter().filter(|slot| slot.busy).count();
        PoolSummary {
            size: slots.len(),
            busy,
            idle: slots.len() - busy,
            counts: self.inner.counters.now(),
            held: self.inner.memory.remembered(),
            memory_bytes: self.inner.limits.memory_bytes,
            over_bytes: self.shortage().over_bytes,
            slots,
            parked: self
                .inner
                .backends
                .keys()
                .filter_map(|name| Some((name.clone(), self.inner.parking.left(name, now)?)))
                .collect(),
            backends: self
                .inner
                .backends
                .iter()
                .map(|(name, backend)| (name.clone(), backend.health()))
                .collect(),
        }
    }

    fn new_slot(&self, key: &SessionKey) -> Arc<Slot> {
        Slot::new(key.clone(), self.inner.given_back.clone(), self.inner.counters.clone())
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<SessionKey, Arc<Slot>>> {
        // No panic can leave the map half-changed.
        self.inner.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Closes and releases; an agent that does not confirm is logged, since nobody can do more.
async fn end(guard: &SlotGuard, handle: &AgentSessionHandle) {
    let backend = guard.backend();
    for (what, outcome) in
        [("close", backend.close_session(handle).await), ("release", backend.release(handle).await)]
    {
        if let Err(error) = outcome {
            tracing::warn!(slot = %handle.key, %error, what, "the agent did not confirm");
        }
    }
}
