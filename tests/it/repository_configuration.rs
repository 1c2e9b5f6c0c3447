//! What a repository ships as configuration of agents (MCP servers, hooks, plug-ins) runs only where that was allowed: with
//! the real agents, started as their presets say. claude and gemini: tests/agents.

use crate::support::conformance::Subject;
use crate::support::real_agents::{RealAgent, Which};
use crate::support::repository_configuration::{one_turn, stays_off_and_goes_on};
use agentpool::backend::acp::Sharing;
use agentpool::config::Preset;
use serde_json::json;
use std::fs;
use std::time::Duration;

/// Not even where its own configuration trusts the worktree, as it does once some modes were chosen.
#[tokio::test(flavor = "multi_thread")]
async fn codex_obeys_no_repository() {
    let mut subject = RealAgent::new(Which::Codex, Sharing::Own).await;
    let worktree = subject.worktree();
    let file = subject.folder.path().join("codex/config.toml");
    let settings = fs::read_to_string(&file).unwrap();
    let trust = format!("[projects.{}]\ntrust_level = \"trusted\"\n", json!(worktree));
    fs::write(file, settings + &trust).unwrap();
    one_turn(&mut subject, Preset::Codex, worktree, false).await;
    subject.backend().dispose(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn opencode_obeys_no_repository_unless_it_may() {
    stays_off_and_goes_on(Which::Opencode, Preset::Opencode).await;
}
