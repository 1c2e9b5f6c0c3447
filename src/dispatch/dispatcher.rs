//! The event loop of a node: hears wakes, admits and claims for its free hands, starts executors, writes their ends. One
//! `select!` makes an `Event`, one `match` handles it. Never runs a turn itself, never waits for the database inside the
//! match: what talks to it is one round in flight.

mod ends;
mod pacing;
mod panics;
mod phase;
mod round;

use super::executor::{self, Ended, Engine, Seat};
use super::leases::HeldLease;
use super::task_source::{Finish, FinishOutcome, SourceError, Wake, Want};
use crate::domain::ids::SessionId;
use crate::domain::permission::PermissionAnswer;
use crate::domain::task::{ClaimedTask, Lease};
use crate::domain::turn::{Stop, StopCause, StopForce};
use crate::pulse::BEAT;
use crate::shutdown::Shutdown;
use ends::{give_back, panicked};
use futures::FutureExt;
use futures::future::BoxFuture;
use pacing::{Pacing, ROUND_EVERY};
use panics::Panics;
use phase::Phase;
use round::{Errands, RoundEnd, in_flight, round};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::{broadcast, mpsc, watch};
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::Instant;

/// Longest wait between two tries while the database is away.
const RETRY_MAX: Duration = Duration::from_secs(2);

/// How a dispatcher is set up.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// The net under the wakes: a round happens at least this often.
    pub poll: Duration,
    /// How long running turns may go on after a drain was asked.
    pub drain_timeout: Duration,
}

enum Event {
    Woken(Result<Wake, broadcast::error::RecvError>),
    HandFreed,
    Timer,
    Round(RoundEnd),
    Ended(Box<Result<(Id, Ended), JoinError>>),
    Drain,
    Kill,
}

/// A turn that may not start yet.
struct Parked {
    held: HeldLease,
    stops: watch::Receiver<Option<Stop>>,
    task: ClaimedTask,
}

/// A turn that runs.
struct Running {
    task: ClaimedTask,
    answers: mpsc::Sender<PermissionAnswer>,
    /// A second hold on the lease, for the case that the turn's own ends in a panic.
    lease: Lease,
}

/// How a dispatcher came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DispatchEnd {
    /// Everything that ran is written or given back.
    Drained,
    /// So many turns are not, since the database did not take it: the node's next start takes them back.
    Unwritten(usize),
    /// Too many turns met a defect of ours.
    Broken,
}

struct Dispatcher {
    engine: Arc<Engine>,
    pace: Pace,
    running: JoinSet<Ended>,
    turns: HashMap<Id, Running>,
    finishes: Vec<Ended>,
    errands: Errands,
    round: Option<BoxFuture<'static, RoundEnd>>,
    pacing: Pacing,
    next_round: Instant,
    /// The net: at this moment everything is looked at, whatever was hinted.
    next_poll: Instant,
    /// Turns of sessions whose former turn here has not ended yet (its lease was lost); started by that end.
    parked: HashMap<SessionId, Parked>,
    /// The database refused a round that held several finishes: one at a time, until all are through.
    one_by_one: bool,
    /// Rounds in a row that found more to do and could not do it.
    fruitless: u32,
    retry: Duration,
    phase: Phase,
    panics: Panics,
}

/// Runs until `shutdown` is asked and everything that ran has been written or given back, or could not be in time.
pub async fn run(engine: Arc<Engine>, pace: Pace, shutdown: Shutdown) -> DispatchEnd {
    let now = Instant::now();
    let mut wakes = engine.source.wakes();
    let mut dispatcher = Dispatcher {
        engine,
        pace,
        running: JoinSet::new(),
        turns: HashMap::new(),
        finishes: Vec::new(),
        errands: Errands::ALL,
        round: None,
        pacing: Pacing::new(now),
        next_round: now,
        next_poll: now + pace.poll,
        parked: HashMap::new(),
        one_by_one: false,
        fruitless: 0,
        retry: ROUND_EVERY,
        phase: Phase::Open,
        panics: Panics::default(),
    };
    while !dispatcher.is_done() {
        dispatcher.engine.pulse.beat();
        dispatcher.start_round_if_due();
        let event = dispatcher.next_event(&mut wakes, &shutdown).await;
        dispatcher.handle(event);
    }
    dispatcher.end()
}

impl Dispatcher {
    async fn next_event(&mut self, wakes: &mut broadcast::Receiver<Wake>, shutdown: &Shutdown) -> Event {
        let timer = self.timer();
        let (open, may_kill) = (matches!(self.phase, Phase::Open), !matches!(self.phase, Phase::Killing(_)));
        let engine = self.engine.clone();
        tokio::select! {
            () = shutdown.killed(), if may_kill => Event::Kill,
            () = shutdown.asked(), if open => Event::Drain,
            Some(ended) = self.running.join_next_with_id() => Event::Ended(Box::new(ended)),
            end = in_flight(&mut self.round) => Event::Round(end),
            wake = wakes.recv() => Event::Woken(wake),
            () = engine.hand_freed.notified() => Event::HandFreed,
            () = tokio::time::sleep_until(timer) => Event::Timer,
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Woken(Ok(wake)) => self.soon(Errands::of(wake)),
            Event::Woken(Err(broadcast::error::RecvError::Lagged(_))) => self.soon(Errands::ALL),
            // The listener is gone for good only while the program ends; the poll goes on.
            Event::Woken(Err(broadcast::error::RecvError::Closed)) => {}
            Event::HandFreed => self.soon(Errands::default()),
            Event::Timer => self.on_timer(),
            Event::Round(end) => self.on_round(end),
            Event::Ended(ended) => self.on_ended(*ended),
            Event::Drain => {
                tracing::info!(running = self.turns.len(), "draining: no new claims");
                self.phase = Phase::draining(Instant::now(), self.pace.drain_timeout);
            }
            Event::Kill => {
                tracing::warn!(running = self.turns.len(), "stopping at once");
                self.engine.leases.stop_all(Stop { cause: StopCause::Drain, force: StopForce::Kill });
                self.phase = Phase::killing(Instant::now());
            }
        }
    }

    fn is_done(&self) -> bool {
        match self.phase {
            Phase::Open => false,
            Phase::Draining(_) | Phase::Stopping(_) => self.nothing_left(),
            Phase::Killing(_) => self.nothing_left() || self.phase.is_past(Instant::now()),
        }
    }

    fn end(&self) -> DispatchEnd {
        match self.running.len() + self.parked.len() + self.finishes.len() {
            _ if self.panics.are_too_many() => DispatchEnd::Broken,
            0 => DispatchEnd::Drained,
            left => DispatchEnd::Unwritten(left),
        }
    }

    fn nothing_left(&self) -> bool {
        self.running.is_empty() && self.parked.is_empty() && self.finishes.is_empty() && self.round.is_none()
    }

    fn timer(&self) -> Instant {
        // While a round is in flight its end starts the next one.
        let round = self.round.is_none().then_some(self.next_round.min(self.next_poll));
        let beat = Instant::now() + BEAT;
        self.phase.until().into_iter().chain(round).fold(beat, Instant::min)
    }

    fn on_timer(&mut self) {
        let now = Instant::now();
        if self.phase.is_past(now) {
            let (phase, told) = self.phase.next(now);
            tracing::warn!(
                running = self.turns.len(),
                ?phase,
                "the time to drain is up: turns are given back"
            );
            self.phase = phase;
            if let Some(stop) = told {
                self.engine.leases.stop_all(stop);
            }
        }
        if now >= self.next_poll {
            // Whatever hint was lost is found now.
            self.errands = Errands::ALL;
            self.next_poll = now + self.pace.poll;
            self.next_round = now;
        }
    }

    fn soon(&mut self, errands: Errands) {
        self.errands = self.errands.and(errands);
        self.next_round = self.next_round.min(self.pacing.earliest());
    }

    fn start_round_if_due(&mut self) {
        if self.round.is_some() || Instant::now() < self.next_round {
            return;
        }
        let open = matches!(self.phase, Phase::Open);
        let hands =
            if open { u16::try_from(self.engine.hands.available_permits()).unwrap_or(u16::MAX) } else { 0 };
        let want = Want { hands, agents: self.engine.pool.runnable() };
        let errands = std::mem::take(&mut self.errands);
        if !errands.any() && self.finishes.is_empty() && (hands == 0 || !open) {
            self.next_round = self.engine.pool.next_unparked(self.next_poll);
            return;
        }
        let leases = self.turns.values().map(|turn| turn.lease).collect();
        let some = if self.one_by_one { 1 } else { self.finishes.len() };
        let finishes: Vec<Ended> = self.finishes.drain(..some.min(self.finishes.len())).collect();
        self.pacing.taken(Instant::now());
        self.next_round = self.engine.pool.next_unparked(self.next_poll);
        self.round = Some(round(self.engine.source.clone(), finishes, errands, want, leases).boxed());
    }

    fn on_round(&mut self, end: RoundEnd) {
        self.round = None;
        let answer = match end.answer {
            Ok(answer) => answer,
            Err(error) => return self.on_failed_round(end.finishes, end.errands, &error),
        };
        self.retry = ROUND_EVERY;
        for (ended, outcome) in end.finishes.into_iter().zip(&answer.tick.finished) {
            match outcome {
                FinishOutcome::Done => {
                    // No reader is no error.
                    let _ = self.engine.committed.send(ended.held.lease().session);
                }
                FinishOutcome::Again => {
                    self.finishes.push(ended);
                    self.next_round = self.next_round.min(Instant::now() + ROUND_EVERY * 4);
                }
                FinishOutcome::LostLease => {
                    tracing::warn!(task = %ended.held.lease().task, "the turn's end came after its lease was lost");
                }
            }
        }
        for task in answer.cancelled {
            if let Some(turn) = self.turns.values().find(|turn| turn.lease.task == task) {
                self.engine
                    .leases
                    .stop(turn.lease, Stop { cause: StopCause::UserCancel, force: StopForce::Ask });
            }
        }
        for (task, answer) in answer.answers {
            if let Some(turn) = self.turns.values().find(|turn| turn.lease.task == task)
                && turn.answers.try_send(answer).is_err()
            {
                // Over, or busy: the row gives the answer out again for a while.
                self.errands.answers = true;
                self.next_round = self.next_round.min(Instant::now() + Duration::from_secs(1));
                tracing::debug!(%task, "an answer could not be handed over yet");
            }
        }
        self.one_by_one &= !self.finishes.is_empty();
        if !self.finishes.is_empty() {
            self.next_round = self.next_round.min(self.pacing.earliest());
        }
        let fruitful = !answer.tick.claimed.is_empty();
        for task in answer.tick.claimed {
            self.start(task);
        }
        if answer.tick.more && matches!(self.phase, Phase::Open) && self.engine.hands.available_permits() > 0
        {
            self.try_again(fruitful);
        }
        if let Some(due_in) = answer.tick.due_in {
            // What falls due then is admitted, and lanes are woken, by that round.
            self.errands.admit = true;
            self.next_round = self.next_round.min(Instant::now() + due_in.max(ROUND_EVERY));
        }
    }

    /// Somebody had a row locked, or admission was another node's: soon again, not in step with the others, and ever more rarely.
    fn try_again(&mut self, fruitful: bool) {
        self.fruitless = if fruitful { 0 } else { (self.fruitless + 1).min(6) };
        let jitter = Duration::from_millis(rand::random_range(5..30) << self.fruitless);
        self.errands.admit = true;
        self.next_round = self.next_round.min(Instant::now() + jitter);
    }

    fn on_failed_round(&mut self, mut finishes: Vec<Ended>, errands: Errands, error: &SourceError) {
        tracing::warn!(%error, "the round failed and will be tried again");
        if !matches!(error, SourceError::Unavailable(_)) {
            match finishes.as_mut_slice() {
                // What the database will not take is a message's text: without it the end is still told.
                [Ended { finish: Some(Finish { failure: Some((_, message)), .. }), .. }] => {
                    "the error's text could not be stored".clone_into(message);
                }
                _ => self.one_by_one = true,
            }
        }
        self.finishes.append(&mut finishes);
        self.errands = self.errands.and(errands);
        self.next_round = Instant::now() + self.retry.mul_f64(rand::random_range(0.5..1.0));
        self.retry = (self.retry * 2).min(RETRY_MAX);
    }

    fn start(&mut self, task: ClaimedTask) {
        let (stop, stops) = watch::channel(None);
        let held = self.engine.leases.hold(task.lease, Arc::new(stop));
        if !matches!(self.phase, Phase::Open) {
            // Claimed while the drain began: given back at once.
            self.finishes.push(give_back(held, &task));
            return self.soon(Errands::default());
        }
        let parked = Parked { held, stops, task };
        let session = parked.task.lease.session;
        match self.turns.values().find(|turn| turn.lease.session == session) {
            // Our lease was lost and is ours again: two turns of one session must never be in its tree together.
            Some(former) => {
                self.engine
                    .leases
                    .stop(former.lease, Stop { cause: StopCause::LeaseLost, force: StopForce::Ask });
                if let Some(older) = self.parked.insert(session, parked) {
                    tracing::warn!(task = %older.task.lease.task, "a turn that had not begun lost its lease");
                }
            }
            None => self.seat(parked),
        }
    }

    fn seat(&mut self, Parked { held, stops, task }: Parked) {
        // An agent asks one thing at a time, or a few.
        let (answers, answered) = mpsc::channel(16);
        let hand = self.engine.hands.clone().try_acquire_owned().ok();
        let seat = Seat { held, stop: stops, answers: answered, hand };
        let lease = task.lease;
        let spawned = self.running.spawn(executor::run(self.engine.clone(), task.clone(), seat));
        self.turns.insert(spawned.id(), Running { task, answers, lease });
    }

    fn on_ended(&mut self, ended: Result<(Id, Ended), JoinError>) {
        let ended = match ended {
            Ok((id, ended)) => {
                self.turns.remove(&id);
                ended
            }
            Err(error) => {
                let Some(turn) = self.turns.remove(&error.id()) else { return };
                tracing::error!(task = %turn.lease.task, %error, "a turn panicked");
                self.engine.panics.fetch_add(1, Ordering::Relaxed);
                if self.panics.count(Instant::now()) && matches!(self.phase, Phase::Open) {
                    self.handle(Event::Kill);
                }
                let (stop, _) = watch::channel(None);
                let held = self.engine.leases.hold(turn.lease, Arc::new(stop));
                panicked(held, &turn.task)
            }
        };
        let session = ended.held.lease().session;
        if ended.finish.is_some() {
            self.finishes.push(ended);
        }
        match self.parked.remove(&session) {
            Some(parked) if matches!(self.phase, Phase::Open) => self.seat(parked),
            Some(parked) => self.finishes.push(give_back(parked.held, &parked.task)),
            None => {}
        }
        self.soon(Errands::default());
    }
}
