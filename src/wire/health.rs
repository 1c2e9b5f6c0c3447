//! The JSON of `/healthz`.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;
use uuid::Uuid;

/// `GET /healthz`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct HealthView {
    /// `ok`, `degraded` or `draining`.
    pub status: String,
    /// Version of the program.
    pub version: String,
    /// Node.
    pub node: Uuid,
    /// Slots.
    pub pool_size: usize,
    /// In a turn.
    pub busy: usize,
    /// Warm, without a turn.
    pub idle: usize,
    /// Since the start: turns that found their conversation warm, and all others.
    #[serde(default)]
    pub hits: u64,
    /// See `hits`.
    #[serde(default)]
    pub misses: u64,
    /// Half of the last 256 misses took no longer, in milliseconds.
    #[serde(default)]
    pub cold_p50_ms: Option<f64>,
    /// Slots given back since the start.
    #[serde(default)]
    pub evictions: u64,
    /// Agent processes that ended without being asked to, since the start.
    #[serde(default)]
    pub lost: u64,
    /// What all agents hold with everything that they started, in bytes.
    #[serde(default)]
    pub memory_bytes: u64,
    /// What they may: `pool.memory_mb`.
    #[serde(default)]
    pub memory_budget_bytes: u64,
    /// What is above that and stays, because it is in use or shared.
    #[serde(default)]
    pub memory_over_bytes: u64,
    /// Backends by agent: state.
    pub backends: BTreeMap<String, String>,
    /// Agents that run no turn until then: their provider's limit was reached.
    #[serde(default)]
    pub parked: BTreeMap<String, DateTime<Utc>>,
    /// Tasks queued; none when the database does not answer.
    pub queued: Option<i64>,
    /// Tasks that run.
    pub running: Option<i64>,
    /// `connecting`, `listening`, or why it is down.
    pub listener: String,
    /// Milliseconds that the write probe took; none when it failed.
    pub database_ms: Option<f64>,
    /// Turns that met a defect of ours, since the start.
    #[serde(default)]
    pub panics: u64,
}
