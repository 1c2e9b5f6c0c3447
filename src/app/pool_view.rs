//! The pool's summary in the words of the API. Pure.

use crate::backend::BackendState;
use crate::pool::{Counts, Held, PoolSummary, SlotSummary, Times};
use crate::wire::pool::{BackendView, CountersView, MemoryView, PoolView, SlotView, TimesView};
use chrono::{TimeDelta, Utc};
use std::time::Duration;

pub(super) fn pool(summary: PoolSummary) -> PoolView {
    PoolView {
        backends: backends(&summary),
        size: summary.size,
        busy: summary.busy,
        idle: summary.idle,
        evictions: summary.counts.evicted(),
        counters: counters(&summary.counts),
        memory: MemoryView {
            bytes: summary.held.total,
            budget_bytes: summary.memory_bytes,
            over_bytes: summary.over_bytes,
            spare_bytes: summary.held.spares,
            stray_bytes: summary.held.strays,
        },
        slots: summary.slots.into_iter().map(|of| slot(of, &summary.held)).collect(),
    }
}

pub(super) fn backends(summary: &PoolSummary) -> Vec<BackendView> {
    let now = Utc::now();
    let until = |left: &Duration| now + TimeDelta::from_std(*left).unwrap_or(TimeDelta::MAX);
    let views = summary.backends.iter().map(|(agent, health)| BackendView {
        agent: agent.to_string(),
        state: state_word(health.state).to_owned(),
        detail: health.detail.clone(),
        parked_until: summary.parked.get(agent).map(until),
        pids: health.pids.clone(),
        starts: health.starts,
        lost: health.lost,
        spares: health.spares.clone(),
        resident_bytes: summary.held.by_backend.get(agent).copied().unwrap_or_default(),
    });
    views.collect()
}

fn counters(counts: &Counts) -> CountersView {
    CountersView {
        hits: counts.hits,
        resumed: counts.resumed,
        new: counts.new,
        new_instead_of_resumed: counts.new_instead_of_resumed,
        failed: counts.failed,
        warm: times(&counts.warm),
        cold: times(&counts.cold),
        evicted_idle: counts.evicted_idle,
        evicted_too_many: counts.evicted_too_many,
        evicted_for_memory: counts.evicted_for_memory,
        releases_failed: counts.releases_failed,
    }
}

fn times(times: &Times) -> TimesView {
    let ms = |time: Duration| time.as_secs_f64() * 1000.0;
    TimesView {
        count: times.count,
        sum_ms: ms(times.sum),
        last_ms: ms(times.last),
        max_ms: ms(times.max),
        p50_ms: times.percentile(50).map(ms),
        p95_ms: times.percentile(95).map(ms),
    }
}

fn slot(slot: SlotSummary, held: &Held) -> SlotView {
    SlotView {
        session_id: slot.key.session.0,
        agent: slot.key.agent.to_string(),
        busy: slot.busy,
        idle_secs: slot.idle_secs,
        memory_bytes: held.by_slot.get(&slot.key).copied().unwrap_or_default(),
        server_port: slot.handle.as_ref().and_then(|handle| handle.server_port),
        agent_session_id: slot.handle.map(|handle| handle.agent_session_id),
    }
}

fn state_word(state: BackendState) -> &'static str {
    match state {
        BackendState::Cold => "cold",
        BackendState::Starting => "starting",
        BackendState::Up => "up",
        BackendState::Down => "down",
        BackendState::CircuitOpen => "circuit_open",
    }
}
