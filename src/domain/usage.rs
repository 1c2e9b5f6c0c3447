//! What a turn cost.

use std::ops::AddAssign;

/// Tokens and money of one turn, summed over its model steps. Reasoning tokens are part of `output_tokens`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// Tokens read, without those that came from a cache.
    pub input_tokens: i64,
    /// Tokens written, reasoning included.
    pub output_tokens: i64,
    /// Of those, reasoning.
    pub reasoning_tokens: i64,
    /// Tokens read from a cache.
    pub cache_read_tokens: i64,
    /// Tokens written to a cache.
    pub cache_write_tokens: i64,
    /// US dollars, as the agent reckons them.
    pub cost_usd: f64,
}

impl Usage {
    /// True when nothing was used.
    pub fn is_zero(&self) -> bool {
        *self == Self::default()
    }
}

impl AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        self.input_tokens += other.input_tokens;
        self.output_tokens += other.output_tokens;
        self.reasoning_tokens += other.reasoning_tokens;
        self.cache_read_tokens += other.cache_read_tokens;
        self.cache_write_tokens += other.cache_write_tokens;
        self.cost_usd += other.cost_usd;
    }
}
