//! When there is a server and when a new one is tried: one start for all who wait, a pause after each failure, and a
//! circuit that opens after five in a minute. Knows nothing of sessions and turns.

use super::OpencodeConfig;
use super::server::{self, Ended, Server, StartError};
use crate::backend::{BackendError, BackendHealth, BackendState};
use crate::domain::turn::StopForce;
use crate::process::Shims;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

/// Failures within [`WINDOW`] that open the circuit.
const FAILURES_MAX: usize = 5;
/// What is forgotten about failures.
const WINDOW: Duration = Duration::from_secs(60);
/// Pause after the first failure, doubled by each further one: 0.5, 1, 2, 4 s, so that the fifth comes in the window.
const PAUSE: Duration = Duration::from_millis(500);
/// How long the end of a lost server is awaited.
const END_DEADLINE: Duration = Duration::from_secs(30);

/// The server of a backend, past and present. Lives as long as the backend.
pub(super) struct Life {
    config: OpencodeConfig,
    shims: Shims,
    tracker: TaskTracker,
    stop: watch::Sender<Option<StopForce>>,
    state: Mutex<State>,
    /// Grows with each change of phase.
    changed: watch::Sender<u64>,
}

struct State {
    phase: Phase,
    failures: Failures,
    last_error: Option<StartError>,
}

/// What a start came to, once it did. Everyone who waits for it holds a receiver.
type Outcome = Option<Result<Arc<Server>, StartError>>;

enum Phase {
    Cold,
    Starting(watch::Receiver<Outcome>),
    Up(Arc<Server>),
    Down,
}

/// What whoever needs a server does next.
enum Reach {
    /// Takes it.
    Up(Arc<Server>),
    /// Waits until the lost one is gone.
    Ending,
    /// Waits for the start.
    Starting(watch::Receiver<Outcome>),
}

/// The times of the last failures.
#[derive(Debug, Default)]
struct Failures(VecDeque<Instant>);

/// Whether a start may be tried.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// After this pause.
    Try(Duration),
    /// Not before this has passed.
    Open(Duration),
}

impl Failures {
    fn add(&mut self, now: Instant) {
        self.0.push_back(now);
        self.forget(now);
    }

    fn verdict(&mut self, now: Instant) -> Verdict {
        self.forget(now);
        let (Some(oldest), Some(last)) = (self.0.front(), self.0.back()) else {
            return Verdict::Try(Duration::ZERO);
        };
        if self.0.len() >= FAILURES_MAX {
            return Verdict::Open((*oldest + WINDOW).saturating_duration_since(now));
        }
        // At most 2^3: five would have opened the circuit.
        let doublings = u32::try_from(self.0.len() - 1).unwrap_or(0);
        Verdict::Try((*last + PAUSE * 2_u32.pow(doublings)).saturating_duration_since(now))
    }

    fn forget(&mut self, now: Instant) {
        while self.0.front().is_some_and(|oldest| now.saturating_duration_since(*oldest) >= WINDOW) {
            self.0.pop_front();
        }
    }
}

impl Life {
    /// Nothing runs yet.
    pub fn new(config: OpencodeConfig, shims: Shims) -> Arc<Self> {
        let state = State { phase: Phase::Cold, failures: Failures::default(), last_error: None };
        Arc::new(Self {
            config,
            shims,
            tracker: TaskTracker::new(),
            stop: watch::Sender::new(None),
            state: Mutex::new(state),
            changed: watch::Sender::new(0),
        })
    }

    /// The configuration that servers are started with.
    pub fn config(&self) -> &OpencodeConfig {
        &self.config
    }

    /// The server that runs now, if one does.
    pub fn current(&self) -> Option<Arc<Server>> {
        match &self.state().phase {
            Phase::Up(server) if !server.is_lost() => Some(Arc::clone(server)),
            Phase::Up(_) | Phase::Cold | Phase::Starting(_) | Phase::Down => None,
        }
    }

    /// The server, started if need be. Whoever comes while it starts waits for the same start.
    ///
    /// # Errors
    /// When it cannot be started, or the circuit is open, or the backend was disposed.
    ///
    /// # Cancel safety
    /// May be dropped at any point: the start goes on and is owned here.
    pub async fn server(self: &Arc<Self>) -> Result<Arc<Server>, BackendError> {
        let mut changed = self.changed.subscribe();
        loop {
            let mut starting = match self.reach()? {
                Reach::Up(server) => return Ok(server),
                Reach::Ending => {
                    // Two servers would fight over one data folder. The end is a kill: it takes milliseconds.
                    if tokio::time::timeout(END_DEADLINE, changed.changed()).await.is_err() {
                        return Err(BackendError::Lost("the last opencode server does not end".to_owned()));
                    }
                    continue;
                }
                Reach::Starting(waiting) => waiting,
            };
            let started = starting.wait_for(Option::is_some).await.map(|done| done.clone());
            return match started {
                Ok(Some(done)) => done.map_err(BackendError::from),
                Ok(None) | Err(_) => Err(disposed()),
            };
        }
    }

    /// Where the server stands; begins a start if there is none.
    fn reach(self: &Arc<Self>) -> Result<Reach, BackendError> {
        if self.tracker.is_closed() {
            return Err(disposed());
        }
        let mut state = self.state();
        match &state.phase {
            Phase::Up(server) if server.is_lost() => return Ok(Reach::Ending),
            Phase::Up(server) => return Ok(Reach::Up(Arc::clone(server))),
            Phase::Starting(waiting) => return Ok(Reach::Starting(waiting.clone())),
            Phase::Cold | Phase::Down => {}
        }
        let pause = match state.failures.verdict(Instant::now()) {
            Verdict::Try(pause) => pause,
            Verdict::Open(left) => return Err(circuit_open(state.last_error.as_ref(), left)),
        };
        let (done, waiting) = watch::channel(None);
        state.phase = Phase::Starting(waiting.clone());
        let life = Arc::clone(self);
        self.tracker.spawn(async move { life.live(pause, done).await });
        Ok(Reach::Starting(waiting))
    }

    /// One server from its start to its end.
    async fn live(self: Arc<Self>, pause: Duration, done: watch::Sender<Outcome>) {
        let mut stop = self.stop.subscribe();
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = server::asked(&mut stop, StopForce::Ask) => return self.turn_to(Phase::Down),
        }
        let started = server::start(&self.config, &self.shims, &self.tracker, &mut stop).await;
        let (server, child) = match started {
            Ok((server, child)) => (Arc::new(server), child),
            Err(error) => {
                tracing::warn!(%error, "opencode could not be started");
                self.failed(error.clone());
                done.send_replace(Some(Err(error)));
                return;
            }
        };
        tracing::info!(version = %server.version, port = server.port, pid = server.pid, "opencode serves");
        self.turn_to(Phase::Up(Arc::clone(&server)));
        done.send_replace(Some(Ok(Arc::clone(&server))));
        match server::watch(&server, child, stop).await {
            Ended::Stopped => self.turn_to(Phase::Down),
            Ended::Lost(reason) => {
                tracing::warn!(%reason, "opencode was lost");
                self.failed(StartError::Failed(reason));
            }
        }
    }

    fn failed(&self, error: StartError) {
        let mut state = self.state();
        state.failures.add(Instant::now());
        state.last_error = Some(error);
        drop(state);
        self.turn_to(Phase::Down);
    }

    fn turn_to(&self, phase: Phase) {
        self.state().phase = phase;
        self.changed.send_modify(|count| *count += 1);
    }

    /// Ends the server and everything that runs on its behalf; returns when nothing is left.
    pub async fn dispose(&self, grace: Duration) {
        self.tracker.close();
        self.stop.send_replace(Some(StopForce::Terminate));
        if tokio::time::timeout(grace, self.tracker.wait()).await.is_err() {
            self.stop.send_replace(Some(StopForce::Kill));
            self.tracker.wait().await;
        }
    }

    /// What the health page says.
    pub fn health(&self) -> BackendHealth {
        let mut state = self.state();
        let verdict = state.failures.verdict(Instant::now());
        let failure =
            state.last_error.as_ref().map(|error| format!("; last failure: {error}")).unwrap_or_default();
        let (state, detail, pids) = match (&state.phase, verdict) {
            (Phase::Up(server), _) if !server.is_lost() => {
                (BackendState::Up, describe(server), vec![server.pid])
            }
            (Phase::Starting(_), _) => {
                (BackendState::Starting, format!("opencode starts{failure}"), Vec::new())
            }
            (Phase::Cold, _) => {
                (BackendState::Cold, "opencode starts with the first turn".to_owned(), Vec::new())
            }
            (Phase::Up(_) | Phase::Down, Verdict::Open(left)) => {
                let wait = left.as_secs() + 1;
                (
                    BackendState::CircuitOpen,
                    format!("opencode is tried again in {wait} s{failure}"),
                    Vec::new(),
                )
            }
            (Phase::Up(_) | Phase::Down, Verdict::Try(_)) => {
                (BackendState::Down, format!("opencode is down{failure}"), Vec::new())
            }
        };
        BackendHealth { state, detail, pids }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn describe(server: &Server) -> String {
    let (unknown, last) = server.routes.unknown();
    let turns = server.turns();
    let stream = if server.routes.is_open() { "" } else { ", its event stream is down" };
    let unknown = match last {
        Some(name) => format!(", {unknown} events of unknown kinds (last: {name})"),
        None => String::new(),
    };
    format!("opencode {} on port {}, {turns} turns{stream}{unknown}", server.version, server.port)
}

fn disposed() -> BackendError {
    BackendError::Lost("the backend was disposed".to_owned())
}

fn circuit_open(last: Option<&StartError>, left: Duration) -> BackendError {
    let wait = left.as_secs() + 1;
    let say = |cause: &str| {
        format!(
            "it failed {FAILURES_MAX} times within {} s and is tried again in {wait} s; last: {cause}",
            WINDOW.as_secs()
        )
    };
    match last {
        Some(StartError::Incompatible(cause)) => BackendError::Incompatible(say(cause)),
        Some(StartError::Failed(cause)) => BackendError::Spawn(say(cause)),
        None => BackendError::Spawn(say("unknown")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_doubles_the_pause_and_the_fifth_opens_the_circuit_for_a_while() {
        let mut failures = Failures::default();
        let mut now = Instant::now();
        assert_eq!(failures.verdict(now), Verdict::Try(Duration::ZERO));
        for expected_ms in [500, 1000, 2000, 4000] {
            failures.add(now);
            let pause = Duration::from_millis(expected_ms);
            assert_eq!(failures.verdict(now), Verdict::Try(pause));
            now += pause;
            assert_eq!(failures.verdict(now), Verdict::Try(Duration::ZERO));
        }
        failures.add(now);
        let open = Duration::from_millis(52_500);
        assert_eq!(failures.verdict(now), Verdict::Open(open));
        assert!(matches!(failures.verdict(now + open), Verdict::Try(_)));
    }
}
