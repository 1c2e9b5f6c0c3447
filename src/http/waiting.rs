//! What a task waits for and how its attempts went, in the API's words.

use super::Api;
use super::problem::Refusal;
use crate::domain::task::TaskStatus;
use crate::domain::waiting::{AgentHere, Wait};
use crate::store::waiting::AttemptEvent;
use crate::wire::api::{AttemptView, TaskView, WaitView};

/// Why a task does not run yet; `None` when it is not queued.
pub(super) async fn wait(api: &Api, task: &TaskView) -> Result<Option<WaitView>, Refusal> {
    if task.status != TaskStatus::Queued.as_str() {
        return Ok(None);
    }
    let agent = agent_here(api, &task.agent);
    let standing = api.store.standing(task.id, api.node.id().0, agent).await?;
    Ok(standing.map(|standing| view(&standing.wait(chrono::Utc::now()), &task.agent)))
}

fn agent_here(api: &Api, name: &str) -> AgentHere {
    let here = api.node.backends();
    let Some(backend) = here.iter().find(|backend| backend.agent == name) else {
        return AgentHere::Elsewhere;
    };
    match backend.parked_until {
        Some(until) => AgentHere::Parked(until),
        None if backend.state == "circuit_open" => AgentHere::Down,
        None => AgentHere::Ready,
    }
}

fn view(wait: &Wait, agent: &str) -> WaitView {
    let detail = match wait {
        Wait::Ending => "a cancel was asked, or its session is closed: it ends in a moment".to_owned(),
        Wait::Scheduled(_) => "its run_at has not come".to_owned(),
        Wait::Admission => "it was put in a moment ago".to_owned(),
        Wait::LaneBusy { head: None, .. } => "another task of its session is before it".to_owned(),
        Wait::LaneBusy { head: Some(head), running: true } => {
            format!("task {head} of its session runs; the tasks of a session run one at a time")
        }
        Wait::LaneBusy { head: Some(head), running: false } => {
            format!(
                "task {head} of its session is before it and waits too: GET /api/tasks/{head} says for what"
            )
        }
        Wait::Paused => "its session is paused".to_owned(),
        Wait::RateLimited(_) => format!("the limit of {agent}'s provider was reached"),
        Wait::BackingOff(_) => "its last attempt failed, `error` says why; it is tried again".to_owned(),
        Wait::OtherNode(node) => format!("its session's worktree is on node {node}, which has to run it"),
        Wait::AgentElsewhere => {
            format!(
                "this node does not run {agent}: it waits for one that does, or for {agent} in this node's configuration"
            )
        }
        Wait::AgentDown => {
            format!("{agent} does not start, GET /api/agents says why; it is tried again by itself")
        }
        Wait::NoFreeHand => "it is next, and every hand of the node has a turn".to_owned(),
    };
    WaitView { reason: wait.as_str().to_owned(), until: wait.until(), detail }
}

/// Begins and ends put together. An end without a begin is an attempt that never came as far as its agent; a begin without
/// an end runs, or its node was lost.
pub(super) fn attempts(events: Vec<AttemptEvent>) -> Vec<AttemptView> {
    let mut attempts: Vec<AttemptView> = Vec::new();
    for event in events {
        let word =
            |name: &str| event.input.as_ref().and_then(|input| input.get(name)?.as_str()).map(str::to_owned);
        if event.kind == "turn_started" {
            attempts.push(AttemptView {
                number: event.input.as_ref().and_then(|input| input.get("attempt")?.as_i64()),
                started_at: Some(event.at),
                conversation: word("conversation"),
                ended_at: None,
                outcome: None,
                reason: None,
                fence: event.fence,
                node_id: event.node,
                node_name: event.node_name,
            });
            continue;
        }
        let reason = word("reason");
        match attempts.last_mut().filter(|last| last.ended_at.is_none()) {
            Some(last) => {
                (last.ended_at, last.outcome, last.reason) = (Some(event.at), event.content, reason);
            }
            None => attempts.push(AttemptView {
                number: None,
                started_at: None,
                conversation: None,
                ended_at: Some(event.at),
                outcome: event.content,
                reason,
                fence: None,
                node_id: None,
                node_name: None,
            }),
        }
    }
    attempts
}
