//! `/api/usage`.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What turns used, summed over one agent, model, day, session or project.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct UsageView {
    /// Which; days are of UTC. Empty for the model of an agent that named none.
    pub key: String,
    /// Attempts that reported usage.
    pub turns: i64,
    /// Tokens in.
    pub input_tokens: i64,
    /// Tokens out.
    pub output_tokens: i64,
    /// Tokens of thinking.
    pub reasoning_tokens: i64,
    /// Tokens read from a cache.
    pub cache_read_tokens: i64,
    /// Tokens written to a cache.
    pub cache_write_tokens: i64,
    /// US dollars, as the agents told.
    pub cost_usd: f64,
}
