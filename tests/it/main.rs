//! One test process for everything that needs real parts: a Postgres cluster and an agent server are shared.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed, and a panic says where")]

mod support;

mod acp_faults;
mod acp_turns;
mod api;
mod backend_conformance;
mod bad_input;
mod cli;
mod embedded_postgres;
mod event_log;
mod fixture_agent;
mod house;
mod install;
mod limits;
mod node_faults;
mod opencode_backend;
mod opencode_faults;
mod opencode_retold;
mod opencode_turns;
mod permission_rules;
mod permissions;
mod pool;
mod postgres_faults;
mod process;
mod queue;
mod queue_model;
mod queue_traps;
mod rate_limits;
mod real_agents;
mod repository_configuration;
mod rescue;
mod schema;
mod scripted_backend;
mod scripted_model;
mod secrets;
mod serve;
mod session_policy;
mod state_machines;
mod turns;
mod worktree;
