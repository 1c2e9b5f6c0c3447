//! `/livez`, `/readyz`, `/healthz`, `/api/pool`.

use super::Api;
use super::auth::admin;
use super::problem::Refusal;
use crate::domain::access::Caller;
use crate::wire::health::HealthView;
use crate::wire::pool::PoolView;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use std::time::{Duration, Instant};

/// A probe that takes longer than this is as good as none.
const PROBE_DEADLINE: Duration = Duration::from_secs(2);

/// An event loop that has not turned for so long will not: only a restart brings it back.
const LOOP_AGE_MAX: Duration = Duration::from_secs(10);

/// The process answers and its event loop turns. Never asks the database: a restart would not bring that back.
pub(super) async fn livez(State(api): State<Api>) -> Result<&'static str, Refusal> {
    let age = api.node.event_loop_age();
    if age < LOOP_AGE_MAX {
        return Ok("ok\n");
    }
    let words = format!("the event loop has not turned for {} s: restart the service", age.as_secs());
    Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "stalled", words))
}

/// May new work come here? Not while draining, and not when the database cannot be written.
pub(super) async fn readyz(State(api): State<Api>) -> Result<&'static str, Refusal> {
    let not_ready =
        |code: &str, words: String| Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, code, words));
    if api.node.is_draining() {
        return not_ready("draining", "the node is draining".to_owned());
    }
    match probe(&api).await {
        Ok(_) => Ok("ok\n"),
        Err(words) => not_ready("database", words),
    }
}

pub(super) async fn healthz(State(api): State<Api>) -> Json<HealthView> {
    let pool = api.node.pool().await;
    let database = probe(&api).await;
    let depth = match &database {
        Ok(_) => {
            tokio::time::timeout(PROBE_DEADLINE, api.store.queue_depth()).await.ok().and_then(Result::ok)
        }
        Err(_) => None,
    };
    let listener = api.node.listener();
    let status = match () {
        () if api.node.is_draining() => "draining",
        () if database.is_err() || listener != "listening" => "degraded",
        () => "ok",
    };
    let parked =
        pool.backends.iter().filter_map(|backend| Some((backend.agent.clone(), backend.parked_until?)));
    Json(HealthView {
        parked: parked.collect(),
        status: status.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        node: api.node.id().0,
        pool_size: pool.size,
        busy: pool.busy,
        idle: pool.idle,
        hits: pool.counters.hits,
        misses: pool.counters.cold.count,
        cold_p50_ms: pool.counters.cold.p50_ms,
        evictions: pool.evictions,
        memory_bytes: pool.memory.bytes,
        memory_budget_bytes: pool.memory.budget_bytes,
        memory_over_bytes: pool.memory.over_bytes,
        lost: pool.backends.iter().map(|backend| backend.lost).sum(),
        backends: pool.backends.into_iter().map(|backend| (backend.agent, backend.state)).collect(),
        queued: depth.map(|depth| depth.queued),
        running: depth.map(|depth| depth.running),
        listener,
        database_ms: database.ok(),
        panics: api.node.panics(),
    })
}

/// What this node keeps warm; for admins.
#[utoipa::path(get, path = "/pool", tag = "pool", responses((status = 200, description = "The pool", body = PoolView)))]
pub(super) async fn pool(State(api): State<Api>, caller: Caller) -> Result<Json<PoolView>, Refusal> {
    admin(&caller)?;
    Ok(Json(api.node.pool().await))
}

/// Milliseconds of a write, or why it failed.
async fn probe(api: &Api) -> Result<f64, String> {
    let started = Instant::now();
    match tokio::time::timeout(PROBE_DEADLINE, api.store.write_probe()).await {
        Ok(Ok(())) => Ok(started.elapsed().as_secs_f64() * 1000.0),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("the database did not answer within {} s", PROBE_DEADLINE.as_secs())),
    }
}
