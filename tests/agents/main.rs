//! The real agents whose packages are large: claude and gemini, offline, by the same suite as the others. `cargo test --test
//! agents` installs them under `target/` the first time (700 MB) and takes some two minutes more: gemini finds a conversation
//! again only when a minute has passed since it began.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed, and a panic says where")]

#[allow(
    dead_code,
    unused_imports,
    unused_macros,
    reason = "the machinery of tests/it, of which this test needs a part"
)]
#[path = "../it/support/mod.rs"]
mod support;

use agentpool::backend::acp::Sharing;
use agentpool::config::Preset;
use support::conformance::keeps_every_promise;
use support::one_conversation::one_conversation;
use support::real_agents::{RealAgent, Which};
use support::repository_configuration::stays_off_and_goes_on;

#[tokio::test(flavor = "multi_thread")]
async fn claude_keeps_every_promise() {
    keeps_every_promise(&RealAgent::new(Which::Claude, Sharing::Shared).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gemini_keeps_every_promise() {
    keeps_every_promise(&RealAgent::new(Which::Gemini, Sharing::Shared).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_with_claude_outlives_its_process() {
    one_conversation(Which::Claude).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_with_gemini_outlives_its_process() {
    one_conversation(Which::Gemini).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn claude_obeys_no_repository_unless_it_may() {
    stays_off_and_goes_on(Which::Claude, Preset::Claude).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gemini_obeys_no_repository_unless_it_may() {
    stays_off_and_goes_on(Which::Gemini, Preset::Gemini).await;
}
