//! Real agents that speak ACP, offline: the conformance suite, and the story of one conversation. opencode and codex are here;
//! claude and gemini, some 700 MB of packages, in tests/agents.

use crate::support::conformance::keeps_every_promise;
use crate::support::one_conversation::one_conversation;
use crate::support::real_agents::{RealAgent, Which};
use agentpool::backend::acp::Sharing;

#[tokio::test(flavor = "multi_thread")]
async fn opencode_keeps_every_promise_over_acp_too() {
    keeps_every_promise(&RealAgent::new(Which::Opencode, Sharing::Shared).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn codex_keeps_every_promise() {
    keeps_every_promise(&RealAgent::new(Which::Codex, Sharing::Own).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_with_opencode_outlives_its_process() {
    one_conversation(Which::Opencode).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_with_codex_outlives_its_process() {
    one_conversation(Which::Codex).await;
}
