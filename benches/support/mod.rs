//! What the tests use to run the real things, and nothing of its own.
#![allow(dead_code, reason = "the tests use more of it")]

#[path = "../../tests/it/support/cluster.rs"]
pub mod cluster;
#[path = "../../tests/it/support/leaks.rs"]
pub mod leaks;
#[path = "../../tests/it/support/node.rs"]
pub mod node;
#[path = "../../tests/it/support/opencode.rs"]
pub mod opencode;
#[path = "../../tests/it/support/repos.rs"]
pub mod repos;
#[path = "../../tests/it/support/serve.rs"]
pub mod serve;
#[path = "../../tests/it/support/shims.rs"]
pub mod shims;
