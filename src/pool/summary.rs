//! What the health page and `agentpool pool` show of the pool. Plain values.

use super::counters::Counts;
use crate::backend::{AgentSessionHandle, BackendHealth};
use crate::domain::agent::AgentName;
use crate::domain::session::SessionKey;
use std::collections::BTreeMap;
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
