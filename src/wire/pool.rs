//! The JSON of `GET /api/pool`.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

/// `GET /api/pool`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct PoolView {
    /// Slots.
    pub size: usize,
    /// In a turn.
    pub busy: usize,
    /// Warm, without a turn.
    pub idle: usize,
    /// Given back since the start, for whatever reason.
    pub evictions: u64,
    /// What was done since the start.
    #[serde(default)]
    pub counters: CountersView,
    /// What agents hold.
    #[serde(default)]
    pub memory: MemoryView,
    /// Every slot.
    pub slots: Vec<SlotView>,
    /// Every backend.
    pub backends: Vec<BackendView>,
}

/// What the pool has done since the start.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CountersView {
    /// A warm conversation was gone on with.
    pub hits: u64,
    /// The agent found a conversation again that was not warm.
    pub resumed: u64,
    /// Conversations begun with nothing to resume.
    pub new: u64,
    /// Conversations begun although something was to be resumed.
    pub new_instead_of_resumed: u64,
    /// Times that there was no conversation: the agent did not start, or refused.
    pub failed: u64,
    /// What hits took.
    pub warm: TimesView,
    /// What everything took that was no hit.
    pub cold: TimesView,
    /// Given back because nobody used them for `pool.idle_ttl_secs`.
    pub evicted_idle: u64,
    /// Given back because there were more than `pool.live_max`.
    pub evicted_too_many: u64,
    /// Given back because all together held more than `pool.memory_mb`.
    #[serde(default)]
    pub evicted_for_memory: u64,
    /// Agents that did not confirm that they gave a conversation back.
    pub releases_failed: u64,
}

/// What agents hold with everything that they started, in bytes; a page that several processes share counts once altogether.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MemoryView {
    /// Now.
    pub bytes: u64,
    /// What they may: `pool.memory_mb`.
    pub budget_bytes: u64,
    /// What is above that and stays, because it is in use or shared.
    pub over_bytes: u64,
    /// Of `bytes`: processes that wait for a conversation.
    pub spare_bytes: u64,
    /// Of `bytes`: processes that a lost agent left behind and that are about to be ended.
    pub stray_bytes: u64,
}

/// How long conversations took to be ready for a prompt, in milliseconds. Percentiles are of the last 256.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TimesView {
    /// How often.
    pub count: u64,
    /// Altogether.
    pub sum_ms: f64,
    /// The last time.
    pub last_ms: f64,
    /// The longest.
    pub max_ms: f64,
    /// Half took no longer; none when there were none.
    pub p50_ms: Option<f64>,
    /// 95 of 100 took no longer.
    pub p95_ms: Option<f64>,
}

/// A slot.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct SlotView {
    /// Session.
    pub session_id: Uuid,
    /// Agent.
    pub agent: String,
    /// A turn has it.
    pub busy: bool,
    /// Seconds since its last turn.
    pub idle_secs: u64,
    /// The agent's own id of the conversation, when one is warm.
    pub agent_session_id: Option<String>,
    /// Port of a shared server.
    pub server_port: Option<u16>,
    /// What processes hold that this conversation alone has, in bytes; none where it shares one.
    #[serde(default)]
    pub memory_bytes: u64,
}

/// A backend.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct BackendView {
    /// Agent.
    pub agent: String,
    /// `cold`, `starting`, `up`, `down`, `circuit_open`.
    pub state: String,
    /// Version, port, last error.
    pub detail: String,
    /// Until then no turn of it is run: its provider's limit was reached.
    #[serde(default)]
    pub parked_until: Option<DateTime<Utc>>,
    /// Process ids of its direct children.
    pub pids: Vec<u32>,
    /// Those of them that wait for a conversation.
    #[serde(default)]
    pub spares: Vec<u32>,
    /// Processes that came up since the start.
    #[serde(default)]
    pub starts: u64,
    /// Processes that ended without being asked to.
    #[serde(default)]
    pub lost: u64,
    /// Memory of their trees, in bytes.
    pub resident_bytes: u64,
}
