//! Machinery of the tests.

pub mod cluster;
pub mod conformance;
pub mod leaks;
pub mod opencode;
pub mod owner;
pub mod repos;
pub mod shims;
