//! The parts of the benchmark of streams.

pub mod log;
pub mod readers;
