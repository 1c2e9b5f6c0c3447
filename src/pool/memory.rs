//! What the agents' processes weigh: looked at off the async threads and not more often than needed, remembered in between.
//! Gives nothing back; eviction.rs decides.

use crate::domain::agent::AgentName;
use crate::domain::session::SessionKey;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// A look that is younger than this is as good as a new one: `/proc` is read for every process of every tree.
const AGE_MAX: Duration = Duration::from_secs(2);

/// Weighs processes.
pub trait Scales: Send + Sync {
    /// What these processes hold, each with all that it started. May block.
    fn weigh(&self, roots: &[u32]) -> Weights;
}

/// What processes hold, in bytes.
#[derive(Clone, Debug, Default)]
pub struct Weights {
    /// By the process that was asked about.
    pub by_root: HashMap<u32, u64>,
    /// Processes that agents started and nobody's tree holds any more.
    pub strays: u64,
}

/// Which processes there are, and whose.
#[derive(Clone, Debug, Default)]
pub(super) struct Processes {
    pub(super) by_backend: BTreeMap<AgentName, Vec<u32>>,
    /// Those that one conversation alone holds.
    pub(super) by_slot: HashMap<SessionKey, Vec<u32>>,
    pub(super) spares: Vec<u32>,
}

/// What agents held when they were last looked at, in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// All processes of all agents.
    pub total: u64,
    /// Of it: processes that wait for a conversation.
    pub spares: u64,
    /// Of it: what agents left behind.
    pub strays: u64,
    /// By agent.
    pub by_backend: BTreeMap<AgentName, u64>,
    /// By conversation, where it has processes of its own.
    pub by_slot: HashMap<SessionKey, u64>,
}

impl Held {
    fn of(processes: &Processes, weights: &Weights) -> Self {
        let sum = |pids: &Vec<u32>| pids.iter().filter_map(|pid| weights.by_root.get(pid)).sum::<u64>();
        let by_backend: BTreeMap<_, _> =
            processes.by_backend.iter().map(|(agent, pids)| (agent.clone(), sum(pids))).collect();
        Self {
            total: by_backend.values().sum::<u64>() + weights.strays,
            spares: sum(&processes.spares),
            strays: weights.strays,
            by_backend,
            by_slot: processes.by_slot.iter().map(|(key, pids)| (key.clone(), sum(pids))).collect(),
        }
    }
}

/// The scales and what they last said.
pub(super) struct Memory {
    scales: Arc<dyn Scales>,
    /// Held while somebody looks: who comes meanwhile takes the same answer.
    looking: tokio::sync::Mutex<()>,
    last: Mutex<(Option<Instant>, Arc<Held>)>,
}

impl Memory {
    pub(super) fn new(scales: Arc<dyn Scales>) -> Self {
        Self { scales, looking: tokio::sync::Mutex::default(), last: Mutex::default() }
    }

    /// What is held now, two seconds ago at most.
    ///
    /// # Cancel safety
    /// May be dropped: a look that has begun is finished and forgotten.
    pub(super) async fn look(&self, processes: impl FnOnce() -> Processes) -> Arc<Held> {
        let _alone = self.looking.lock().await;
        if let (Some(at), held) = &*self.last()
            && at.elapsed() < AGE_MAX
        {
            return Arc::clone(held);
        }
        let (processes, scales) = (processes(), Arc::clone(&self.scales));
        let looked = tokio::task::spawn_blocking(move || {
            let roots: Vec<u32> = processes.by_backend.values().flatten().copied().collect();
            Held::of(&processes, &scales.weigh(&roots))
        });
        // It fails only when the runtime ends.
        let held = Arc::new(looked.await.unwrap_or_default());
        *self.last() = (Some(Instant::now()), Arc::clone(&held));
        held
    }

    /// What is remembered, however old.
    pub(super) fn remembered(&self) -> Arc<Held> {
        Arc::clone(&self.last().1)
    }

    /// The next look is a new one.
    pub(super) fn has_changed(&self) {
        self.last().0 = None;
    }

    fn last(&self) -> MutexGuard<'_, (Option<Instant>, Arc<Held>)> {
        // Both are replaced whole.
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
