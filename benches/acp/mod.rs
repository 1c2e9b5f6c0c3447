//! The parts of the benchmark, one file a question.

pub mod flood;
pub mod many;
mod raw;
pub mod support;
pub mod turns;
