//! `/api/agents`.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// An agent, and how it stands on the node that answers.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct AgentView {
    /// Name.
    pub name: String,
    /// `opencode_server`, `acp_warm`, `scripted`.
    pub backend: String,
    /// Default model.
    pub default_model: Option<String>,
    /// `cold`, `starting`, `up`, `down`, `circuit_open`, or `elsewhere` when this node does not run it.
    pub state: String,
    /// Version, port, last error.
    pub detail: String,
    /// Until then this node runs no turn of it: its provider's limit was reached.
    #[serde(default)]
    pub parked_until: Option<DateTime<Utc>>,
}
