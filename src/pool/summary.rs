//! What the health page and `agentpool pool` show of the pool. Plain values.

use super::counters::Counts;
use super::memory::Held;
use crate::backend::{AgentSessionHandle, BackendHealth};
use crate::domain::agent::AgentName;
use crate::domain::session::SessionKey;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// The pool at one moment.
#[derive(Clone, Debug)]
pub struct PoolSummary {
    /// Slots.
    pub size: usize,
    /// Slots in a turn.
    pub busy: usize,
    /// Warm slots without a turn.
    pub idle: usize,
    /// What was done since the start.
    pub counts: Counts,
    /// What agents held when they were last looked at.
    pub held: Arc<Held>,
    /// What they may hold together, in bytes.
    pub memory_bytes: u64,
    /// What they hold above that and cannot give back, because it is in use or shared.
    pub over_bytes: u64,
    /// Every slot.
    pub slots: Vec<SlotSummary>,
    /// Every backend.
    pub backends: Vec<(AgentName, BackendHealth)>,
    /// Agents that run no turn for so long.
    pub parked: BTreeMap<AgentName, Duration>,
}

/// One slot.
#[derive(Clone, Debug)]
pub struct SlotSummary {
    /// Whose.
    pub key: SessionKey,
    /// A turn has it.
    pub busy: bool,
    /// Seconds since its last turn ended.
    pub idle_secs: u64,
    /// The conversation, when one is warm.
    pub handle: Option<AgentSessionHandle>,
}
