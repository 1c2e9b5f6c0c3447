//! The prompt itself: the agent runs, and beside it its events go to the log, its questions to policy or people, and two
//! watches (progress, length) ask it to stop. Never decides what an end means: verdict.rs does.

mod questions;

use super::prepare::Ready;
use super::{Seat, Turn, stopped};
use crate::backend::{BackendError, Interrupted, Prompt, SessionOrigin, TurnIo};
use crate::dispatch::event_writer::TurnLog;
use crate::dispatch::interview::Interview;
use crate::dispatch::task_source::LoggedEvent;
use crate::dispatch::verdict::{self, Outcome};
use crate::domain::agent::AgentProfile;
use crate::domain::measure;
use crate::domain::permission::PermissionAnswer;
use crate::domain::task::TaskSettings;
use crate::domain::turn::{Stop, StopCause, StopForce, TurnEnd, TurnEvent, TurnRef};
use crate::domain::usage::Usage;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Events between a backend and the log. Small: a slow store is felt by the agent within one screen of text.
const EVENTS_MAX: usize = 256;
/// How long an agent that was asked to stop may take before its turn is given up and left to the backend.
const STOP_BOUND: Duration = Duration::from_secs(30);

/// What a turn has said, whatever its end.
pub(super) struct Said {
    pub(super) log: TurnLog,
    /// Tokens that the agent told of while it ran; all there is to know of a turn that did not complete.
    pub(super) usage: Usage,
    /// The model that the agent was asked for; `None` leaves it to the agent.
    pub(super) model: Option<String>,
}

/// What the events of a turn add up to.
#[derive(Default)]
struct Heard {
    usage: Usage,
    /// A word, or a tool call.
    anything: bool,
}

struct Prompting<'a> {
    turn: &'a Turn<'a>,
    profile: &'a AgentProfile,
    log: TurnLog,
    heard: Heard,
    interview: Interview,
    to_agent: mpsc::Sender<PermissionAnswer>,
    /// The agent has ended the turn, or was given up.
    over: CancellationToken,
    last_heard: Instant,
    /// When it was prompted, until it says something.
    silent_since: Option<Instant>,
    /// When the turn has lasted long enough, waits for people and hands not counted. `None`: it was told so already.
    length_until: Option<Instant>,
    /// Since when a person, and then a hand, is waited for.
    waiting_since: Option<Instant>,
}

impl Turn<'_> {
    pub(super) async fn prompt(
        &self,
        profile: &AgentProfile,
        ready: &mut Ready,
        seat: &mut Seat,
    ) -> (Outcome, Said) {
        let mut log = self.engine.writer.open(self.task.lease, self.task.last_seq, &profile.redactor).await;
        let origin = match ready.handle.origin {
            SessionOrigin::Reused => "reused",
            SessionOrigin::Resumed => "resumed",
            SessionOrigin::New => "new",
            SessionOrigin::NewInsteadOfResumed => "new_instead_of_resumed",
        };
        let agent = self.task.agent.clone();
        log.write(LoggedEvent::TurnStarted { attempt: self.task.attempt, agent, origin }).await;
        for notice in ready.notices.drain(..) {
            log.write(LoggedEvent::Agent(TurnEvent::Notice(notice))).await;
        }
        let mut settings = self.task.settings.clone();
        settings.model = settings.model.or_else(|| profile.default_model.clone());
        settings.mode_id = settings.mode_id.or_else(|| profile.default_mode.clone());
        settings.thinking_option_id =
            settings.thinking_option_id.or_else(|| profile.default_thinking.clone());
        if let Interrupted::Completed { output, usage, .. } = &ready.handle.interrupted {
            let notice = "the interrupted try had completed; its answer was read from the agent's own store"
                .to_owned();
            log.write(LoggedEvent::Agent(TurnEvent::Notice(notice))).await;
            log.write(LoggedEvent::Agent(TurnEvent::Text(output.clone()))).await;
            let said = Said { log, usage: *usage, model: settings.model };
            return (Outcome::Completed { usage: *usage }, said);
        }
        // A handful of answers at most: an agent asks and waits.
        let (to_agent, answers) = mpsc::channel(16);
        let now = Instant::now();
        let prompting = Prompting {
            turn: self,
            profile,
            log,
            heard: Heard::default(),
            interview: Interview::new(ready.permission),
            to_agent,
            over: CancellationToken::new(),
            last_heard: now,
            silent_since: Some(now),
            length_until: now.checked_add(Duration::from_secs(profile.turn_secs)),
            waiting_since: None,
        };
        prompting.run(ready, seat, settings, answers).await
    }
}

impl Prompting<'_> {
    async fn run(
        mut self,
        ready: &Ready,
        seat: &mut Seat,
        settings: TaskSettings,
        answers: mpsc::Receiver<PermissionAnswer>,
    ) -> (Outcome, Said) {
        let lease = self.turn.task.lease;
        let (events, heard) = mpsc::channel(EVENTS_MAX);
        let model = settings.model.clone();
        let turn = TurnRef { task: lease.task, fence: lease.fence };
        let prompt = Prompt { turn, text: ready.text.clone(), settings };
        let io = TurnIo { events, stop: seat.stop.clone(), answers };
        let (backend, over, stop) = (ready.slot.backend().clone(), self.over.clone(), seat.stop.clone());
        let prompted = async {
            let end = tokio::select! {
                end = backend.prompt(&ready.handle, &prompt, io) => end,
                // Dropping the prompt detaches: the backend stops the turn by itself.
                () = give_up(stop) => Err(BackendError::Lost("it did not stop when asked".to_owned())),
            };
            over.cancel();
            end
        };
        // Side by side: an agent must hear that it is to stop even while the store keeps one of its events waiting.
        let (end, ()) = tokio::join!(prompted, self.listen(heard, ready, seat));
        let outcome = self.judge(end, *seat.stop.borrow());
        let Self { log, heard: Heard { usage, .. }, .. } = self;
        let said = Said { log, usage, model };
        tracing::debug!(task = %lease.task, model = ?said.model, usage = ?said.usage, "the agent's part is over");
        (outcome, said)
    }

    fn judge(&self, end: Result<TurnEnd, BackendError>, stop: Option<Stop>) -> Outcome {
        verdict::outcome(end, stop, self.heard.anything)
    }

    /// Until the agent's part is over and all that it said is in line for the log.
    async fn listen(&mut self, mut heard: mpsc::Receiver<TurnEvent>, ready: &Ready, seat: &mut Seat) {
        loop {
            let (progress, length) = (self.progress_deadline(), self.length_deadline());
            // Who is being stopped needs no default any more.
            let deadline = self.interview.next_deadline().filter(|_| seat.stop.borrow().is_none());
            tokio::select! {
                () = self.over.cancelled() => break,
                Some(event) = heard.recv() => self.hear(event, ready, seat).await,
                Some(answer) = seat.answers.recv() => self.answer(answer, ready, seat).await,
                () = sleep_until(deadline) => self.expire(ready, seat).await,
                () = sleep_until(progress) => {
                    self.last_heard = Instant::now();
                    self.stop(StopCause::Stalled);
                }
                () = sleep_until(length) => self.too_long(),
            }
        }
        while let Ok(event) = heard.try_recv() {
            self.keep(event).await;
        }
    }

    async fn hear(&mut self, event: TurnEvent, ready: &Ready, seat: &mut Seat) {
        let TurnEvent::Permission(request) = &event else {
            self.keep(event).await;
            self.last_heard = Instant::now();
            return;
        };
        let request = request.clone();
        let asked = self.ask(&request, ready, seat).await;
        self.keep(event).await;
        self.after_asking(asked, &request, ready, seat).await;
        // Not before: what the store kept waiting, the agent has not been silent.
        self.last_heard = Instant::now();
    }

    async fn keep(&mut self, event: TurnEvent) {
        if let Some(since) = self.silent_since.take() {
            let agent = self.turn.task.agent.to_string();
            metrics::histogram!(measure::FIRST_EVENT_SECONDS, "agent" => agent)
                .record(since.elapsed().as_secs_f64());
        }
        self.heard.take(&event);
        self.log.write(LoggedEvent::Agent(event)).await;
    }

    fn progress_deadline(&self) -> Option<Instant> {
        if self.interview.waits() {
            return None;
        }
        self.last_heard.checked_add(Duration::from_secs(self.profile.stall_secs))
    }

    fn length_deadline(&self) -> Option<Instant> {
        self.length_until.filter(|_| self.waiting_since.is_none())
    }

    fn too_long(&mut self) {
        self.length_until = None;
        self.stop(StopCause::Timeout);
    }

    fn stop(&self, cause: StopCause) {
        self.turn.engine.leases.stop(self.turn.task.lease, Stop { cause, force: StopForce::Ask });
    }
}

impl Heard {
    fn take(&mut self, event: &TurnEvent) {
        match event {
            TurnEvent::Text(_) | TurnEvent::ToolCall(_) | TurnEvent::ToolUpdate(_) => self.anything = true,
            TurnEvent::Usage(usage) => self.usage += *usage,
            TurnEvent::Reasoning(_)
            | TurnEvent::Plan(_)
            | TurnEvent::Commands(_)
            | TurnEvent::ModeChanged(_)
            | TurnEvent::Permission(_)
            | TurnEvent::Retry { .. }
            | TurnEvent::Notice(_) => {}
        }
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Resolves [`STOP_BOUND`] after a stop was asked, at once when it is to be killed.
async fn give_up(mut stop: tokio::sync::watch::Receiver<Option<Stop>>) {
    stopped(stop.clone()).await;
    let killed = stop.wait_for(|stop| stop.is_some_and(|stop| stop.force == StopForce::Kill));
    let _ = tokio::time::timeout(STOP_BOUND, killed).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_told_step_by_step_add_up_also_when_no_end_tells_their_sum() {
        let step = |input_tokens, output_tokens| {
            TurnEvent::Usage(Usage { input_tokens, output_tokens, cost_usd: 0.25, ..Usage::default() })
        };
        let mut heard = Heard::default();
        for event in [step(100, 7), TurnEvent::Text("so far".into()), step(20, 1)] {
            heard.take(&event);
        }
        let sum = Usage { input_tokens: 120, output_tokens: 8, cost_usd: 0.5, ..Usage::default() };
        assert_eq!((heard.usage, heard.anything), (sum, true));
    }
}
