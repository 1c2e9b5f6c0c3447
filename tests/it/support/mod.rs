//! Machinery of the tests.

pub mod cli;
pub mod cluster;
pub mod conformance;
pub mod faulty_way;
pub mod leaks;
pub mod meddler;
pub mod node;
pub mod opencode;
pub mod owner;
pub mod queue;
pub mod repos;
pub mod serve;
pub mod shims;
pub mod source;
