//! The JSON of `/healthz`.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// `GET /healthz`.
#[derive(Clone, Debug, Serialize, Deserialize)]
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
    /// Backends by agent: state.
    pub backends: std::collections::BTreeMap<String, String>,
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
