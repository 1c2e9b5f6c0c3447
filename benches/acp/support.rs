//! What the tests use to run agents over ACP, and nothing of its own.
#![allow(dead_code, unused_imports, unused_macros, reason = "the tests use more of it")]

#[path = "../../tests/it/support/acp.rs"]
pub mod acp;
#[path = "../../tests/it/support/cluster.rs"]
pub mod cluster;
#[path = "../../tests/it/support/conformance.rs"]
pub mod conformance;
#[path = "../../tests/it/support/fixture_agent.rs"]
pub mod fixture_agent;
#[path = "../../tests/it/support/leaks.rs"]
pub mod leaks;
#[path = "../../tests/it/support/node.rs"]
pub mod node;
#[path = "../../tests/it/support/opencode.rs"]
pub mod opencode;
#[path = "../../tests/it/support/real_agents.rs"]
pub mod real_agents;
#[path = "../../tests/it/support/repos.rs"]
pub mod repos;
#[path = "../../tests/it/support/serve.rs"]
pub mod serve;
#[path = "../../tests/it/support/shims.rs"]
pub mod shims;
