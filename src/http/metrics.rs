//! `/metrics`, in Prometheus's words, for admins: what was counted as it happened, and what stands now.

use super::Api;
use super::auth::admin;
use super::problem::Refusal;
use crate::domain::access::Caller;
use crate::domain::measure;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use metrics::{counter, gauge};
use std::time::Duration;

/// A database that takes longer leaves its figures out.
const DATABASE_DEADLINE: Duration = Duration::from_secs(2);

pub(super) async fn get(State(api): State<Api>, caller: Caller) -> Result<Response, Refusal> {
    admin(&caller)?;
    gauge!(measure::BUILD_INFO, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    queue(&api).await;
    pool(&api).await;
    gauge!(measure::LISTENING).set(as_number(api.node.listener() == "listening"));
    gauge!(measure::DRAINING).set(as_number(api.node.is_draining()));
    counter!(measure::PANICS).absolute(api.node.panics());
    process();
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    Ok((kind, api.metrics.render()).into_response())
}

fn as_number(yes: bool) -> f64 {
    f64::from(u8::from(yes))
}

async fn queue(api: &Api) {
    let Ok(Ok(depth)) = tokio::time::timeout(DATABASE_DEADLINE, api.store.queue_depth()).await else {
        return;
    };
    gauge!(measure::QUEUE_DEPTH, "state" => "queued").set(depth.queued as f64);
    gauge!(measure::QUEUE_DEPTH, "state" => "running").set(depth.running as f64);
    gauge!(measure::QUEUE_OLDEST).set(depth.oldest_secs);
}

async fn pool(api: &Api) {
    let pool = api.node.pool().await;
    gauge!(measure::SLOTS, "state" => "busy").set(pool.busy as f64);
    gauge!(measure::SLOTS, "state" => "idle").set(pool.idle as f64);
    counter!(measure::EVICTIONS).absolute(pool.evictions);
    gauge!(measure::AGENT_BYTES).set(pool.memory.bytes as f64);
    for backend in pool.backends {
        let agent = backend.agent;
        counter!(measure::AGENT_STARTS, "agent" => agent.clone()).absolute(backend.starts);
        counter!(measure::AGENT_LOST, "agent" => agent.clone(), "kind" => "lost").absolute(backend.lost);
        gauge!(measure::AGENT_DOWN, "agent" => agent.clone()).set(as_number(backend.state == "circuit_open"));
        gauge!(measure::AGENT_PARKED, "agent" => agent).set(as_number(backend.parked_until.is_some()));
    }
}

/// What /proc says of this process; nothing where it says nothing.
fn process() {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = resident.and_then(|words| words.split_whitespace().next()?.parse::<f64>().ok());
    if let Some(kib) = kib {
        gauge!(measure::RESIDENT_BYTES).set(kib * 1024.0);
    }
    if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
        // One of them is this reading.
        gauge!(measure::OPEN_FDS).set(open.count().saturating_sub(1) as f64);
    }
}
