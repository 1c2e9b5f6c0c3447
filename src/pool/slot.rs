//! One slot: its lock, and what is warm behind it. One turn at a time; whoever holds the guard is that turn.

use super::SlotSummary;
use super::counters::Counters;
use super::eviction::SlotView;
use crate::backend::{AgentBackend, AgentSessionHandle, BackendError, EnsureSession};
use crate::domain::session::SessionKey;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, OwnedMutexGuard};
use tokio::time::Instant;

pub(super) struct Slot {
    key: SessionKey,
    /// Held for a whole turn: creation is single-flight, and two turns never meet.
    turn: Arc<tokio::sync::Mutex<()>>,
    /// Callers that wait for `turn`.
    waiting: AtomicUsize,
    awaiting_permission: AtomicBool,
    /// Wakes the sweep, which may find the pool over its limit.
    given_back: Arc<Notify>,
    counters: Arc<Counters>,
    warm: Mutex<Warm>,
}

struct Warm {
    handle: Option<AgentSessionHandle>,
    last_used: Instant,
}

impl Slot {
    pub(super) fn new(key: SessionKey, given_back: Arc<Notify>, counters: Arc<Counters>) -> Arc<Self> {
        Arc::new(Self {
            key,
            turn: Arc::default(),
            waiting: AtomicUsize::new(0),
            awaiting_permission: AtomicBool::new(false),
            given_back,
            counters,
            warm: Mutex::new(Warm { handle: None, last_used: Instant::now() }),
        })
    }

    pub(super) async fn lock(self: Arc<Self>, backend: Arc<dyn AgentBackend>) -> SlotGuard {
        let counted = Waiting::new(&self);
        let turn = self.turn.clone().lock_owned().await;
        drop(counted);
        SlotGuard { slot: self, backend, _turn: turn }
    }

    pub(super) fn try_lock(self: Arc<Self>, backend: Arc<dyn AgentBackend>) -> Option<SlotGuard> {
        if self.waiting.load(Ordering::Acquire) > 0 {
            return None;
        }
        let turn = self.turn.clone().try_lock_owned().ok()?;
        Some(SlotGuard { slot: self, backend, _turn: turn })
    }

    pub(super) fn view(&self, now: Instant) -> SlotView {
        let warm = self.warm();
        SlotView {
            key: self.key.clone(),
            idle: now.saturating_duration_since(warm.last_used),
            in_turn: self.turn.try_lock().is_err(),
            awaiting_permission: self.awaiting_permission.load(Ordering::Relaxed),
            queued: self.waiting.load(Ordering::Acquire),
            pinned: false,
            bytes: 0,
        }
    }

    pub(super) fn summary(&self, now: Instant) -> SlotSummary {
        let warm = self.warm();
        SlotSummary {
            key: self.key.clone(),
            busy: self.turn.try_lock().is_err(),
            idle_secs: now.saturating_duration_since(warm.last_used).as_secs(),
            handle: warm.handle.clone(),
        }
    }

    pub(super) fn warm_handle(&self) -> Option<(SessionKey, AgentSessionHandle)> {
        Some((self.key.clone(), self.warm().handle.clone()?))
    }

    fn warm(&self) -> MutexGuard<'_, Warm> {
        // No panic can leave the two fields half-changed.
        self.warm.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps the count right when a waiting future is dropped.
struct Waiting<'a>(&'a Slot);

impl<'a> Waiting<'a> {
    fn new(slot: &'a Slot) -> Self {
        slot.waiting.fetch_add(1, Ordering::AcqRel);
        Self(slot)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The right to use a slot for one turn; given back by being dropped.
pub struct SlotGuard {
    slot: Arc<Slot>,
    backend: Arc<dyn AgentBackend>,
    _turn: OwnedMutexGuard<()>,
}

impl SlotGuard {
    /// A conversation to prompt: the warm one, or resumed, or new, as the handle says. What `opts.resume` names is only used
    /// when nothing is warm.
    ///
    /// # Errors
    /// As [`AgentBackend::ensure_session`]; the slot is cold afterwards.
    pub async fn ensure(&mut self, mut opts: EnsureSession) -> Result<AgentSessionHandle, BackendError> {
        if let Some(warm) = &self.slot.warm().handle {
            opts.resume = Some(warm.agent_session_id.clone());
        }
        let begun = Instant::now();
        let ensured = self.backend.ensure_session(&self.slot.key, &opts).await;
        match &ensured {
            Ok(handle) => self.slot.counters.ensured(handle.origin, begun.elapsed()),
            Err(_) => self.slot.counters.not_ensured(),
        }
        let mut warm = self.slot.warm();
        warm.handle = ensured.as_ref().ok().cloned();
        warm.last_used = Instant::now();
        drop(warm);
        ensured
    }

    /// The backend behind the slot.
    pub fn backend(&self) -> &Arc<dyn AgentBackend> {
        &self.backend
    }

    /// Forgets the warm conversation: lost, poisoned or closed.
    pub fn take_handle(&mut self) -> Option<AgentSessionHandle> {
        self.slot.warm().handle.take()
    }

    /// Gives back what the warm conversation holds, if there is one; it stays resumable. An agent that does not confirm is logged
    /// and counted.
    pub async fn release(&mut self) {
        let Some(handle) = self.take_handle() else { return };
        if let Err(error) = self.backend.release(&handle).await {
            self.slot.counters.release_failed();
            tracing::warn!(slot = %handle.key, %error, "the agent did not confirm the release");
        }
    }

    /// Tells the sweep that a person is asked.
    pub fn awaiting_permission(&self, waits: bool) {
        self.slot.awaiting_permission.store(waits, Ordering::Relaxed);
    }

    pub(super) fn slot(&self) -> &Arc<Slot> {
        &self.slot
    }
}

impl Drop for SlotGuard {
    fn drop(&mut self) {
        self.slot.awaiting_permission.store(false, Ordering::Relaxed);
        self.slot.warm().last_used = Instant::now();
        self.slot.given_back.notify_one();
    }
}
