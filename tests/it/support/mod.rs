//! Machinery of the tests.

pub mod acp;
pub mod cli;
pub mod cluster;
pub mod conformance;
pub mod faulty_way;
pub mod fingerprint;
pub mod fixture_agent;
pub mod leaks;
pub mod lossy_way;
pub mod meddler;
pub mod node;
pub mod one_conversation;
pub mod opencode;
pub mod own_cluster;
pub mod owner;
pub mod pg_way;
pub mod pgbouncer;
pub mod queue;
pub mod queue_model;
pub mod real_agents;
pub mod repos;
pub mod repository_configuration;
pub mod serve;
pub mod shims;
pub mod source;
