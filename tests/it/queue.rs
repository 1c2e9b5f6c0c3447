//! The queue as its users see it: order, one at a time, waits, cancels, closed sessions, keys and hints.

mod all_at_once;
mod cancels;
mod claims;
mod closed_sessions;
mod ends;
mod hints;
mod keys;
mod order;
mod outage;
mod races;

use crate::support::queue::plain;
use agentpool::domain::task::ClaimedTask;
use agentpool::store::enqueue::NewTask;
use uuid::Uuid;

fn prompts(claimed: &[ClaimedTask]) -> Vec<&str> {
    claimed.iter().map(|task| task.prompt.as_str()).collect()
}

fn prio(session: Uuid, prompt: &str, priority: i16) -> NewTask {
    NewTask { priority: Some(priority), ..plain(session, prompt) }
}

fn for_agent(session: Uuid, prompt: &str, name: &str) -> NewTask {
    NewTask { agent: name.into(), ..plain(session, prompt) }
}
