//! Which processes there are: started one at a time after failures, shared or one a conversation, some kept ready. Knows what is
//! open in them; prompts nothing.

use super::ahead::Ahead;
use super::open;
use super::process::Process;
use super::roster::{Live, Roster};
use super::start::start;
use super::unclaimed::Unclaimed;
use super::{AcpConfig, Sharing};
use crate::backend::circuit::{self, Failures, StartError, Verdict};
use crate::backend::{BackendError, BackendHealth, BackendState};
use crate::domain::turn::StopForce;
use crate::process::Shims;
use serde_json::json;
use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Between a spare that was taken and the start of another one.
const REFILL_PAUSE: Duration = Duration::from_secs(3);
/// How long an agent may take to say that a conversation is closed, before its process is ended anyway.
pub(super) const CLOSE_DEADLINE: Duration = Duration::from_secs(2);
/// The processes of a backend. Lives as long as the backend.
pub(super) struct Life {
    config: AcpConfig,
    shims: Shims,
    pub(super) tracker: TaskTracker,
    over: CancellationToken,
    state: Mutex<State>,
    ahead: Ahead,
    /// Held while the shared process is looked for or started.
    shared: tokio::sync::Mutex<Option<Arc<Process>>>,
}

#[derive(Default)]
struct State {
    roster: Roster,
    processes: Vec<Arc<Process>>,
    ready: VecDeque<Arc<Process>>,
    refilling: bool,
    /// Memory is short: none are to be ready.
    without_spares: bool,
    starting: usize,
    failures: Failures,
    last_error: Option<StartError>,
    started: u64,
    lost: u64,
    /// What is known of the program, from its last start.
    program: String,
}

impl Life {
    pub(super) fn new(config: AcpConfig, shims: Shims) -> Arc<Self> {
        let life = Arc::new(Self {
            config,
            shims,
            tracker: TaskTracker::new(),
            over: CancellationToken::new(),
            state: Mutex::default(),
            ahead: Ahead::default(),
            shared: tokio::sync::Mutex::default(),
        });
        life.refill();
        life
    }

    pub(super) fn config(&self) -> &AcpConfig {
        &self.config
    }

    /// A process for one more conversation.
    ///
    /// # Errors
    /// When none can be started, or the circuit is open, or the backend was disposed.
    ///
    /// # Cancel safety
    /// May be dropped at any point: what was started is ended.
    pub(super) async fn process(self: &Arc<Self>) -> Result<Unclaimed, BackendError> {
        match self.config.sharing {
            Sharing::Own => {
                let ready = self.take_ready();
                self.refill_later();
                match ready {
                    Some(process) => Ok(Unclaimed::own(process)),
                    None => Ok(Unclaimed::own(self.start().await?)),
                }
            }
            Sharing::Shared => {
                let mut shared = self.shared.lock().await;
                let process = match shared.as_ref().filter(|process| !process.is_lost()) {
                    Some(process) => Arc::clone(process),
                    None => self.start().await?,
                };
                *shared = Some(Arc::clone(&process));
                Ok(Unclaimed::shared(process))
            }
        }
    }

    /// One that is initialised and waits, if there is one.
    pub(super) fn take_ready(&self) -> Option<Arc<Process>> {
        let mut state = self.state();
        while let Some(process) = state.ready.pop_front() {
            if !process.is_lost() {
                return Some(process);
            }
        }
        None
    }

    /// Sees to it that as many as configured are ready, off the way of whoever took one.
    pub(super) fn refill(self: &Arc<Self>) {
        if self.config.spare == 0 || self.config.sharing == Sharing::Shared {
            return;
        }
        if self.over.is_cancelled() || std::mem::replace(&mut self.state().refilling, true) {
            return;
        }
        let life = Arc::clone(self);
        self.tracker.spawn(async move {
            while life.wants_ready() {
                // What cannot be started now is tried with the next need.
                let Ok(process) = life.start().await else { break };
                open::warm_up(&life, &process).await;
                let mut state = life.state();
                if state.without_spares {
                    process.stop(StopForce::Terminate);
                } else {
                    state.ready.push_back(process);
                }
            }
            life.state().refilling = false;
        });
    }

    /// The same, when whoever took one has had time for its first turn: a start takes a core of it.
    pub(super) fn refill_later(self: &Arc<Self>) {
        if self.config.spare == 0 {
            return;
        }
        let life = Arc::clone(self);
        self.tracker.spawn(async move {
            tokio::select! {
                () = tokio::time::sleep(REFILL_PAUSE) => life.refill(),
                () = life.over.cancelled() => {}
            }
        });
    }

    fn wants_ready(&self) -> bool {
        let mut state = self.state();
        state.ready.retain(|process| !process.is_lost());
        let wants = !state.without_spares && !self.over.is_cancelled();
        wants && state.ready.len() < self.config.spare
    }

    /// None are ready from here on; returns when those that were are gone, and those with a conversation that nobody has prompted.
    pub(super) async fn give_back_ready(&self) {
        let ready = {
            let mut state = self.state();
            state.without_spares = true;
            std::mem::take(&mut state.ready)
        };
        ready.iter().for_each(|process| process.stop(StopForce::Terminate));
        for process in ready {
            process.gone().await;
        }
        self.ahead.give_back(self).await;
    }

    /// The opposite of [`Life::give_back_ready`].
    pub(super) fn allow_ready(self: &Arc<Self>) {
        self.state().without_spares = false;
        self.refill();
    }

    async fn start(self: &Arc<Self>) -> Result<Arc<Process>, BackendError> {
        let pause = {
            let mut state = self.state();
            match state.failures.verdict(Instant::now()) {
                Verdict::Try(pause) => pause,
                Verdict::Open(left) => return Err(circuit::open(state.last_error.as_ref(), left)),
            }
        };
        let _starting = Starting::new(self);
        let start = async {
            tokio::time::sleep(pause).await;
            start(&self.config, &self.shims, &self.tracker).await
        };
        let started = tokio::select! {
            started = start => started,
            () = self.over.cancelled() => return Err(disposed()),
        };
        match started {
            Ok(process) => {
                let mut state = self.state();
                state.processes.retain(|process| !process.is_lost());
                state.processes.push(Arc::clone(&process));
                state.started += 1;
                state.program = format!("{} {}", process.able.name, process.able.version).trim().to_owned();
                drop(state);
                self.tracker.spawn(Arc::clone(self).mourn(Arc::clone(&process)));
                Ok(process)
            }
            Err(error) => {
                tracing::warn!(agent = self.config.name, %error, "the agent could not be started");
                let mut state = self.state();
                state.failures.add(Instant::now());
                state.last_error = Some(error.clone());
                Err(error.into())
            }
        }
    }

    /// Forgets what a lost process held.
    async fn mourn(self: Arc<Self>, process: Arc<Process>) {
        let reason = process.lost().await;
        let by_us = process.was_ended_by_us();
        self.forget(&process, by_us);
        if !by_us {
            tracing::warn!(agent = self.config.name, pid = process.pid, turns = process.turns(), %reason, "an agent process was lost");
            self.refill();
        }
        process.gone().await;
    }

    fn forget(&self, process: &Arc<Process>, by_us: bool) {
        let mut state = self.state();
        state.processes.retain(|other| !Arc::ptr_eq(other, process));
        state.roster.forget(process);
        state.ready.retain(|other| !Arc::ptr_eq(other, process));
        state.lost += u64::from(!by_us);
    }

    /// The conversation, while it is open in a process that lives.
    pub(super) fn live(&self, id: &str) -> Option<Live> {
        self.state().roster.live(id)
    }

    pub(super) fn opened(&self, live: Live) {
        self.state().roster.opened(live);
    }

    /// No longer open here.
    pub(super) fn take(&self, id: &str) -> Option<Live> {
        self.state().roster.take(id)
    }

    pub(super) fn close(&self, id: &str) {
        self.state().roster.close(id);
    }

    pub(super) fn is_closed(&self, id: &str) -> bool {
        self.state().roster.is_closed(id)
    }

    /// Gives back what a conversation holds here.
    pub(super) async fn let_go(&self, live: Live) {
        let Live { process, conversation, .. } = live;
        if process.able.close && !process.is_lost() {
            let params = json!({"sessionId": conversation.id});
            if let Err(error) = process.call("session/close", params, CLOSE_DEADLINE).await {
                tracing::debug!(agent = self.config.name, %error, "the agent did not confirm a close");
            }
        }
        match self.config.sharing {
            Sharing::Shared => process.router.forget(&conversation.id),
            Sharing::Own => {
                process.stop(StopForce::Terminate);
                process.gone().await;
            }
        }
    }

    /// What was opened before its first prompt.
    pub(super) fn ahead(&self) -> &Ahead {
        &self.ahead
    }

    /// Returns when the backend is disposed.
    pub(super) async fn over(&self) {
        self.over.cancelled().await;
    }

    pub(super) fn is_over(&self) -> bool {
        self.over.is_cancelled()
    }

    /// Ends every process; returns when nothing is left.
    pub(super) async fn dispose(&self, grace: Duration) {
        self.over.cancel();
        self.tracker.close();
        self.stop_all(StopForce::Terminate);
        if tokio::time::timeout(grace, self.tracker.wait()).await.is_err() {
            self.stop_all(StopForce::Kill);
            self.tracker.wait().await;
        }
    }

    fn stop_all(&self, force: StopForce) {
        self.state().processes.iter().for_each(|process| process.stop(force));
    }

    /// Bytes of memory are measured by whoever asks: here are the processes.
    pub(super) fn health(&self) -> BackendHealth {
        let mut state = self.state();
        let verdict = state.failures.verdict(Instant::now());
        let pids: Vec<u32> =
            state.processes.iter().filter(|process| !process.is_lost()).map(|process| process.pid).collect();
        let failure = state
            .last_error
            .as_ref()
            .map(|error| format!("; last failed start: {error}"))
            .unwrap_or_default();
        let program = if state.program.is_empty() { "the agent" } else { &state.program };
        let (status, detail) = match (pids.len(), state.starting, verdict) {
            (0, 0, Verdict::Open(left)) => {
                (BackendState::CircuitOpen, format!("tried again in {} s{failure}", left.as_secs() + 1))
            }
            (0, 1.., _) => (BackendState::Starting, format!("{program} starts{failure}")),
            (0, 0, _) if state.last_error.is_some() && state.started == 0 => {
                (BackendState::Down, format!("{program} is down{failure}"))
            }
            (0, 0, _) => (BackendState::Cold, format!("{program} starts with the next turn{failure}")),
            (count, ..) => {
                let open: usize = state.processes.iter().map(|process| process.router.count()).sum();
                let ready = state.ready.len();
                let odd = oddities(&state.processes);
                let took = state.processes.last().map_or(0, |process| process.started_in.as_millis());
                (
                    BackendState::Up,
                    format!(
                        "{program}, {count} processes ({ready} spare), {open} conversations, last start took {took} ms{odd}"
                    ),
                )
            }
        };
        let mut spares: Vec<u32> = state.ready.iter().map(|process| process.pid).collect();
        spares.extend(self.ahead.pids());
        BackendHealth { state: status, detail, pids, spares, starts: state.started, lost: state.lost }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No panic can leave a map half-changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts starts that are under way, dropped ones included.
struct Starting<'a>(&'a Life);

impl<'a> Starting<'a> {
    fn new(life: &'a Life) -> Self {
        life.state().starting += 1;
        Self(life)
    }
}

impl Drop for Starting<'_> {
    fn drop(&mut self) {
        self.0.state().starting -= 1;
    }
}

/// What processes said that made no sense, for people.
fn oddities(processes: &[Arc<Process>]) -> String {
    let sum = |count: fn(&Process) -> u64| processes.iter().map(|process| count(process)).sum::<u64>();
    let counts = [
        ("lines of garbage", sum(|process| process.counts.garbage.load(Ordering::Relaxed))),
        ("lines that were too long", sum(|process| process.counts.too_long.load(Ordering::Relaxed))),
        ("updates of unknown kinds", sum(|process| process.counts.unknown.load(Ordering::Relaxed))),
        ("updates for others", sum(|process| process.counts.foreign.load(Ordering::Relaxed))),
    ];
    counts.iter().filter(|(_, count)| *count > 0).map(|(what, count)| format!(", {count} {what}")).collect()
}

pub(super) fn disposed() -> BackendError {
    BackendError::Lost("the backend was disposed".to_owned())
}
