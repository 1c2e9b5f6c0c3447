//! Machinery of the tests.

pub mod cluster;
pub mod leaks;
pub mod repos;
pub mod shims;
