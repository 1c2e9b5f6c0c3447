//! The parts of the benchmark: the stage, the ways to the agent that are compared, and one file a question.

pub mod direct;
pub mod figures;
pub mod follow;
pub mod memory;
pub mod one_shot;
pub mod overhead;
pub mod ready;
pub mod stage;
