//! Runs one claimed task to the finish that its rows will get. Never claims, never retries, never decides by itself whether
//! the task is tried again: verdict.rs does.

mod observed;
mod prepare;
mod prompting;
mod resuming;
mod wrap_up;

use super::event_writer::EventWriter;
use super::leases::{HeldLease, Leases};
use super::task_source::{Finish, SourceError, TaskSource};
use super::verdict::{self, Outcome};
use crate::backend::BackendError;
use crate::domain::agent::{AgentName, AgentProfile};
use crate::domain::failure::FailureReason;
use crate::domain::ids::SessionId;
use crate::domain::permission::PermissionAnswer;
use crate::domain::redaction::Redactor;
use crate::domain::task::ClaimedTask;
use crate::domain::turn::Stop;
use crate::failpoint::failpoint;
use crate::pool::AgentPool;
use crate::pulse::{self, Pulse};
use crate::worktree::{WorktreeError, Worktrees};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Instant;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, broadcast, mpsc, watch};
use tracing::Instrument;

/// What every executor of a node works with.
pub struct Engine {
    /// The other side.
    pub source: Arc<dyn TaskSource>,
    /// Warm agents.
    pub pool: AgentPool,
    /// Trees.
    pub worktrees: Worktrees,
    /// The event log.
    pub writer: EventWriter,
    /// Leases of the node.
    pub leases: Leases,
    /// How agents are treated.
    pub profiles: BTreeMap<AgentName, AgentProfile>,
    /// One permit a turn that may work at the same time.
    pub hands: Arc<Semaphore>,
    /// Told when a turn gives up its hand to wait for a person.
    pub hand_freed: Notify,
    /// Told which sessions have news, for this node's readers.
    pub committed: broadcast::Sender<SessionId>,
    /// The event loop's heartbeat.
    pub pulse: Pulse,
    /// Turns that panicked, since the start.
    pub panics: Arc<AtomicU64>,
}

/// What one turn holds while it runs.
pub struct Seat {
    /// Renewed while this lives.
    pub held: HeldLease,
    /// Stops in.
    pub stop: watch::Receiver<Option<Stop>>,
    /// Answers of people in.
    pub answers: mpsc::Receiver<PermissionAnswer>,
    /// Given up while a person is asked.
    pub hand: Option<OwnedSemaphorePermit>,
}

/// A turn that is over. The lease is renewed until the finish is written.
pub struct Ended {
    /// Still held.
    pub held: HeldLease,
    /// What to write; nothing when the lease is lost.
    pub finish: Option<Finish>,
}

/// Runs one turn.
pub async fn run(engine: Arc<Engine>, task: ClaimedTask, mut seat: Seat) -> Ended {
    failpoint("claimed").await;
    let turn = Turn { engine: &engine, task: &task };
    let (began, since) = (pulse::now(), Instant::now());
    let span = observed::span(&task);
    let outcome = turn.run(&mut seat).instrument(span.clone()).await;
    let outcome = verdict::considering_a_standstill(outcome, engine.pulse.stood_still_after(began));
    if let Some(wait) = verdict::parks(&outcome) {
        // Before the lease is given back, so that no round claims another turn of this agent in between.
        tracing::warn!(agent = %task.agent, wait_secs = wait.as_secs(), "the agent is parked: its provider's limit was reached");
        engine.pool.park(&task.agent, wait);
    }
    let mut finish = verdict::finish(&outcome, &task, rand::random());
    // What went wrong is told in the agent's own words, too.
    if let Some((_, message)) = finish.as_mut().and_then(|finish| finish.failure.as_mut()) {
        *message = turn.redactor().redact(std::mem::take(message));
    }
    observed::ended(&span, &task, &outcome, finish.as_ref(), since.elapsed());
    // Told within the span, so that its last line has what was used.
    let _within = span.enter();
    match (&outcome, &finish) {
        (Outcome::Failed { reason, .. }, Some(finish)) => {
            tracing::warn!(
                task = %task.lease.task, session = %task.lease.session, agent = %task.agent, attempt = task.attempt,
                reason = reason.as_str(), next = finish.status.as_str(), wait_ms = finish.wait.as_millis(),
                "the turn failed"
            );
        }
        (Outcome::Abandoned, _) => {
            tracing::warn!(task = %task.lease.task, fence = task.lease.fence.0, "the lease is lost; nothing is written");
        }
        _ => {
            tracing::info!(task = %task.lease.task, agent = %task.agent, attempt = task.attempt, "the turn ended")
        }
    }
    Ended { held: seat.held, finish }
}

struct Turn<'a> {
    engine: &'a Engine,
    task: &'a ClaimedTask,
}

impl Turn<'_> {
    /// Takes the agent's secrets out. An agent that is not configured here has none.
    fn redactor(&self) -> Redactor {
        let profile = self.engine.profiles.get(&self.task.agent);
        profile.map_or_else(Redactor::default, |profile| profile.redactor.clone())
    }

    async fn run(&self, seat: &mut Seat) -> Outcome {
        if self.task.cancel_requested {
            return Outcome::Cancelled { backend_lost: false };
        }
        if seat.hand.is_none() {
            // A turn that came back from a person was faster.
            tokio::select! {
                biased;
                stop = stopped(seat.stop.clone()) => return verdict::stopped(stop.cause, false),
                hand = self.engine.hands.clone().acquire_owned() => seat.hand = hand.ok(),
            }
        }
        let Some(profile) = self.engine.profiles.get(&self.task.agent) else {
            let message = format!("agent {} is not configured on this node", self.task.agent);
            return verdict::failed(FailureReason::SpawnFailed, message);
        };
        // Everything up to the prompt may be dropped at any point: git is killed and repaired, a started server stays.
        let prepared = tokio::select! {
            biased;
            stop = stopped(seat.stop.clone()) => Err(verdict::stopped(stop.cause, false)),
            prepared = self.prepare(profile) => prepared.map_err(TurnFailure::outcome),
        };
        let mut ready = match prepared {
            Ok(ready) => ready,
            Err(outcome) => {
                self.tell_of_failure(&outcome).await;
                return outcome;
            }
        };
        let (outcome, said) = self.prompt(profile, &mut ready, seat).await;
        self.wrap_up(ready, outcome, said).await
    }
}

/// Resolves when a stop is asked.
async fn stopped(mut stop: watch::Receiver<Option<Stop>>) -> Stop {
    loop {
        if let Some(stop) = *stop.borrow_and_update() {
            return stop;
        }
        if stop.changed().await.is_err() {
            // The dispatcher is gone and will ask no more.
            std::future::pending::<()>().await;
        }
    }
}

/// Why a turn could not go on before or after its prompt.
#[derive(Debug)]
enum TurnFailure {
    LostLease,
    Cancelled,
    Backend(BackendError),
    Because { reason: FailureReason, message: String },
}

impl TurnFailure {
    fn outcome(self) -> Outcome {
        match self {
            Self::LostLease => Outcome::Abandoned,
            Self::Cancelled => Outcome::Cancelled { backend_lost: false },
            Self::Backend(error) => verdict::failed_by(&error),
            Self::Because { reason, message } => verdict::failed(reason, message),
        }
    }
}

impl From<SourceError> for TurnFailure {
    fn from(error: SourceError) -> Self {
        let reason = match error {
            SourceError::LostLease => return Self::LostLease,
            SourceError::Unavailable(_) => FailureReason::DatabaseFailed,
            // It will not take this turn's values next time either: charged, so that it ends.
            SourceError::BadValue(_) | SourceError::Failed(_) => FailureReason::Internal,
        };
        Self::Because { reason, message: error.to_string() }
    }
}

impl From<WorktreeError> for TurnFailure {
    fn from(error: WorktreeError) -> Self {
        Self::Because { reason: error.reason(), message: error.to_string() }
    }
}

impl From<BackendError> for TurnFailure {
    fn from(error: BackendError) -> Self {
        Self::Backend(error)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::domain::ids::{Fence, SessionId, TaskId, WorkspaceId};
    use crate::domain::task::{Lease, TaskSettings};
    use uuid::Uuid;

    /// A claimed task in its `attempt`th execution with so many charged failures.
    pub(in crate::dispatch) fn claimed(attempt: i32, failures: i32) -> ClaimedTask {
        ClaimedTask {
            lease: Lease { session: SessionId(Uuid::nil()), task: TaskId(Uuid::nil()), fence: Fence(1) },
            workspace: WorkspaceId(Uuid::nil()),
            agent: AgentName::new("a").expect("a good name"),
            prompt: "p".into(),
            settings: TaskSettings::default(),
            attempt,
            failures,
            failures_max: 3,
            last_seq: 0,
            previous_fence: None,
            cancel_requested: false,
        }
    }
}
