//! When there is a server and when a new one is tried: one start for all who wait, and a new one in place of one that
//! failed or grew too large. Knows nothing of sessions and turns.

use super::OpencodeConfig;
use super::in_use::InUse;
use super::server::{self, Ended, Server};
use super::size;
use crate::backend::circuit::{self, Failures, StartError, Verdict};
use crate::backend::{BackendError, BackendHealth, BackendState};
use crate::domain::turn::StopForce;
use crate::process::Shims;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

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
    size: Size,
    starts: u64,
    lost: u64,
}

/// What is known of the size of servers, for the health page.
#[derive(Default)]
struct Size {
    /// Bytes of the running one, when they are too many.
    too_large: Option<u64>,
    /// How many were ended for it, and at how many bytes the last one.
    ended: u32,
    ended_at: u64,
}

/// What a start came to, once it did. Everyone who waits for it holds a receiver.
type Outcome = Option<Result<(), StartError>>;

enum Phase {
    Cold,
    Starting(watch::Receiver<Outcome>),
    Up(Arc<Server>),
    /// It runs and grew too large: nobody comes to it until it is gone, or until this was in vain.
    Holding(Arc<Server>),
    Down,
}

/// What whoever needs a server does next.
enum Reach {
    /// Takes it.
    Up(InUse),
    /// Waits until the lost one is gone.
    Ending,
    /// Waits until the one that is too large is gone, or goes on.
    Holding,
    /// Waits for the start.
    Starting(watch::Receiver<Outcome>),
}

impl Life {
    /// Nothing runs yet.
    pub fn new(config: OpencodeConfig, shims: Shims) -> Arc<Self> {
        let state = State {
            phase: Phase::Cold,
            failures: Failures::default(),
            last_error: None,
            size: Size::default(),
            starts: 0,
            lost: 0,
        };
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

    /// The server that runs now, if one does that is not about to be ended.
    pub fn current(&self) -> Option<InUse> {
        match &self.state().phase {
            Phase::Up(server) if !server.is_lost() => Some(InUse::of(server)),
            Phase::Up(_) | Phase::Holding(_) | Phase::Cold | Phase::Starting(_) | Phase::Down => None,
        }
    }

    /// The server, started if need be. Whoever comes while it starts waits for the same start.
    ///
    /// # Errors
    /// When it cannot be started, or the circuit is open, or the backend was disposed.
    ///
    /// # Cancel safety
    /// May be dropped at any point: the start goes on and is owned here.
    pub async fn server(self: &Arc<Self>) -> Result<InUse, BackendError> {
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
                Reach::Holding => {
                    // The hold has a bound of its own and is followed by an end at most.
                    let bound = self.config.patience.hold + END_DEADLINE;
                    if tokio::time::timeout(bound, changed.changed()).await.is_err() {
                        return Err(BackendError::Lost("the last opencode server does not end".to_owned()));
                    }
                    continue;
                }
                Reach::Starting(waiting) => waiting,
            };
            match starting.wait_for(Option::is_some).await.map(|done| done.clone()) {
                Ok(Some(Ok(()))) => {}
                Ok(Some(Err(error))) => return Err(error.into()),
                Ok(None) | Err(_) => return Err(disposed()),
            }
        }
    }

    /// Where the server stands; begins a start if there is none.
    fn reach(self: &Arc<Self>) -> Result<Reach, BackendError> {
        if self.tracker.is_closed() {
            return Err(disposed());
        }
        let mut state = self.state();
        match &state.phase {
            Phase::Up(server) | Phase::Holding(server) if server.is_lost() => return Ok(Reach::Ending),
            Phase::Up(server) => return Ok(Reach::Up(InUse::of(server))),
            Phase::Holding(_) => return Ok(Reach::Holding),
            Phase::Starting(waiting) => return Ok(Reach::Starting(waiting.clone())),
            Phase::Cold | Phase::Down => {}
        }
        let pause = match state.failures.verdict(Instant::now()) {
            Verdict::Try(pause) => pause,
            Verdict::Open(left) => return Err(circuit::open(state.last_error.as_ref(), left)),
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
        self.state().starts += 1;
        self.turn_to(Phase::Up(Arc::clone(&server)));
        done.send_replace(Some(Ok(())));
        let worn_out = size::worn_out(&self, &server);
        match server::watch(&server, child, &self.config.patience, stop, worn_out).await {
            Ended::Stopped => self.turn_to(Phase::Down),
            Ended::WornOut { bytes } => {
                let limit_mb = self.config.memory_soft_bytes >> 20;
                tracing::info!(mb = bytes >> 20, limit_mb, "opencode was ended between turns for its size");
                let mut state = self.state();
                state.size = Size { too_large: None, ended: state.size.ended + 1, ended_at: bytes };
                drop(state);
                self.turn_to(Phase::Cold);
            }
            Ended::Lost(reason) => {
                tracing::warn!(%reason, "opencode was lost");
                self.state().lost += 1;
                self.failed(StartError::Failed(reason));
            }
        }
    }

    fn failed(&self, error: StartError) {
        let mut state = self.state();
        state.failures.add(Instant::now());
        state.last_error = Some(error);
        state.size.too_large = None;
        drop(state);
        self.turn_to(Phase::Down);
    }

    fn turn_to(&self, phase: Phase) {
        self.state().phase = phase;
        self.changed.send_modify(|count| *count += 1);
    }

    /// From now on nobody comes to the server.
    pub(super) fn hold(&self, server: &Arc<Server>, bytes: u64) {
        self.state().size.too_large = Some(bytes);
        self.turn_to(Phase::Holding(Arc::clone(server)));
    }

    /// It takes turns again; it is too large still, or no longer (`None`).
    pub(super) fn let_on(&self, server: &Arc<Server>, too_large: Option<u64>) {
        self.state().size.too_large = too_large;
        self.turn_to(Phase::Up(Arc::clone(server)));
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
        let size = state.size.describe(self.config.memory_soft_bytes);
        let (starts, lost) = (state.starts, state.lost);
        let (state, detail, pids) = match (&state.phase, verdict) {
            (Phase::Up(server) | Phase::Holding(server), _) if !server.is_lost() => {
                (BackendState::Up, format!("{}{size}", describe(server)), vec![server.pid])
            }
            (Phase::Starting(_), _) => {
                (BackendState::Starting, format!("opencode starts{failure}{size}"), Vec::new())
            }
            (Phase::Cold, _) => {
                (BackendState::Cold, format!("opencode starts with the next turn{size}"), Vec::new())
            }
            (Phase::Up(_) | Phase::Holding(_) | Phase::Down, Verdict::Open(left)) => {
                let wait = left.as_secs() + 1;
                (
                    BackendState::CircuitOpen,
                    format!("opencode is tried again in {wait} s{failure}"),
                    Vec::new(),
                )
            }
            (Phase::Up(_) | Phase::Holding(_) | Phase::Down, Verdict::Try(_)) => {
                (BackendState::Down, format!("opencode is down{failure}"), Vec::new())
            }
        };
        BackendHealth { state, detail, pids, spares: Vec::new(), starts, lost }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Size {
    /// Nothing, or what stands behind a comma.
    fn describe(&self, limit_bytes: u64) -> String {
        let limit_mb = limit_bytes >> 20;
        let now = match self.too_large {
            Some(bytes) => format!(
                ", holds {} MiB, more than memory_soft_mb ({limit_mb}): a new one comes when no turn runs",
                bytes >> 20
            ),
            None => String::new(),
        };
        let before = match (self.ended, self.ended_at >> 20) {
            (0, _) => String::new(),
            (1, mb) => format!(", one before it was ended at {mb} MiB (memory_soft_mb {limit_mb})"),
            (n, mb) => format!(
                ", {n} before it were ended for their size, the last at {mb} MiB (memory_soft_mb {limit_mb})"
            ),
        };
        now + &before
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
