//! The prompt itself: events out to the log, questions to policy or people, stops in, and the two watches (progress, length).

use super::prepare::Ready;
use super::{Seat, Turn, stopped};
use crate::backend::{BackendError, Interrupted, Prompt, TurnIo};
use crate::dispatch::event_writer::TurnLog;
use crate::dispatch::interview::Interview;
use crate::dispatch::task_source::LoggedEvent;
use crate::dispatch::verdict::{self, Outcome};
use crate::domain::agent::AgentProfile;
use crate::domain::permission::{PermissionAnswer, PermissionRequest};
use crate::domain::text;
use crate::domain::turn::{Stop, StopCause, StopForce, TurnEnd, TurnEvent, TurnRef};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Events between a backend and the log. Small: a slow store is felt by the agent within one screen of text.
const EVENTS_MAX: usize = 256;
/// How long an agent that was asked to stop may take before its turn is given up and left to the backend.
const STOP_BOUND: Duration = Duration::from_secs(30);
/// Longest output that is kept on the task's row, in bytes.
const OUTPUT_BYTES_MAX: usize = 4 << 20;

/// What a turn has said.
pub(super) struct Said {
    pub(super) log: TurnLog,
    pub(super) output: String,
    anything: bool,
}

struct Prompting<'a> {
    turn: &'a Turn<'a>,
    profile: &'a AgentProfile,
    said: Said,
    interview: Interview,
    to_agent: mpsc::Sender<PermissionAnswer>,
    last_heard: Instant,
}

impl Turn<'_> {
    pub(super) async fn prompt(
        &self,
        profile: &AgentProfile,
        ready: &mut Ready,
        seat: &mut Seat,
    ) -> (Outcome, Said) {
        let log = self.engine.writer.open(self.task.lease, self.task.last_seq).await;
        let origin = match ready.handle.origin {
            crate::backend::SessionOrigin::Reused => "reused",
            crate::backend::SessionOrigin::Resumed => "resumed",
            crate::backend::SessionOrigin::New => "new",
            crate::backend::SessionOrigin::NewInsteadOfResumed => "new_instead_of_resumed",
        };
        let agent = self.task.agent.clone();
        log.write(LoggedEvent::TurnStarted { attempt: self.task.attempt, agent, origin }).await;
        for notice in ready.notices.drain(..) {
            log.write(LoggedEvent::Agent(TurnEvent::Notice(notice))).await;
        }
        let mut said = Said { log, output: String::new(), anything: false };
        if let Interrupted::Completed { output, usage, .. } = &ready.handle.interrupted {
            let notice = "the interrupted try had completed; its answer was read from the agent's own store"
                .to_owned();
            said.log.write(LoggedEvent::Agent(TurnEvent::Notice(notice))).await;
            said.log.write(LoggedEvent::Agent(TurnEvent::Text(output.clone()))).await;
            said.output.clone_from(output);
            return (Outcome::Completed { usage: *usage }, said);
        }
        // A handful of answers at most: an agent asks and waits.
        let (to_agent, answers) = mpsc::channel(16);
        let prompting = Prompting {
            turn: self,
            profile,
            said,
            interview: Interview::new(profile.permission),
            to_agent,
            last_heard: Instant::now(),
        };
        prompting.run(ready, seat, answers).await
    }
}

impl Prompting<'_> {
    async fn run(
        mut self,
        ready: &Ready,
        seat: &mut Seat,
        answers: mpsc::Receiver<PermissionAnswer>,
    ) -> (Outcome, Said) {
        let task = self.turn.task;
        let (events, mut heard) = mpsc::channel(EVENTS_MAX);
        let mut settings = task.settings.clone();
        settings.model = settings.model.or_else(|| self.profile.default_model.clone());
        let turn = TurnRef { task: task.lease.task, fence: task.lease.fence };
        let prompt = Prompt { turn, text: ready.text.clone(), settings };
        let backend = ready.slot.backend().clone();
        let io = TurnIo { events, stop: seat.stop.clone(), answers };
        let mut end = backend.prompt(&ready.handle, &prompt, io);
        let length = tokio::time::sleep(Duration::from_secs(self.profile.turn_secs));
        let given_up = give_up(seat.stop.clone());
        tokio::pin!(length, given_up);
        let end = loop {
            let (progress, deadline) = (self.progress_deadline(), self.interview.next_deadline());
            tokio::select! {
                end = &mut end => break end,
                Some(event) = heard.recv() => self.hear(event, ready, seat).await,
                Some(answer) = seat.answers.recv() => self.answer(answer, ready, seat).await,
                () = sleep_until(deadline) => self.expire(ready, seat).await,
                () = sleep_until(progress) => {
                    self.last_heard = Instant::now();
                    self.stop(StopCause::Stalled);
                }
                () = &mut length, if !length.is_elapsed() => self.stop(StopCause::Timeout),
                // Dropping the prompt detaches: the backend stops the turn by itself.
                () = &mut given_up => break Err(BackendError::Lost("it did not stop when asked".to_owned())),
            }
        };
        while let Ok(event) = heard.try_recv() {
            self.hear(event, ready, seat).await;
        }
        let stop = *seat.stop.borrow();
        (self.judge(end, stop), self.said)
    }

    fn judge(&self, end: Result<TurnEnd, BackendError>, stop: Option<Stop>) -> Outcome {
        verdict::outcome(end, stop, self.said.anything)
    }

    async fn hear(&mut self, event: TurnEvent, ready: &Ready, seat: &mut Seat) {
        self.last_heard = Instant::now();
        match &event {
            TurnEvent::Text(text) => {
                self.said.anything = true;
                if self.said.output.len() < OUTPUT_BYTES_MAX {
                    self.said.output.push_str(text);
                }
            }
            TurnEvent::ToolCall(_) | TurnEvent::ToolUpdate(_) => self.said.anything = true,
            TurnEvent::Permission(request) => self.ask(request.clone(), ready, seat).await,
            _ => {}
        }
        self.said.log.write(LoggedEvent::Agent(event)).await;
    }

    async fn ask(&mut self, request: PermissionRequest, ready: &Ready, seat: &mut Seat) {
        let id = request.agent_request_id.clone();
        let ask = self.interview.ask(request, Instant::now());
        let engine = self.turn.engine;
        while let Err(error) =
            engine.source.ask_permission(&self.turn.task.lease, &self.turn.task.agent, &ask).await
        {
            tracing::warn!(task = %self.turn.task.lease.task, %error, "the question could not be stored");
            if seat.stop.borrow().is_some()
                || matches!(error, crate::dispatch::task_source::SourceError::LostLease)
            {
                return;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        match ask.answered {
            Some(decision) => self.tell(PermissionAnswer { agent_request_id: id, decision }).await,
            None => {
                // A turn that waits for a person holds its lane, not one of the node's hands.
                ready.slot.awaiting_permission(true);
                seat.hand = None;
                engine.hand_freed.notify_one();
            }
        }
    }

    async fn answer(&mut self, answer: PermissionAnswer, ready: &Ready, seat: &mut Seat) {
        if self.interview.answered(&answer.agent_request_id) {
            self.back_to_work(ready, seat).await;
            self.tell(answer).await;
        }
    }

    async fn expire(&mut self, ready: &Ready, seat: &mut Seat) {
        for (id, decision) in self.interview.expired(Instant::now()) {
            let lease = &self.turn.task.lease;
            match self.turn.engine.source.expire_permission(lease, &id, &decision).await {
                Ok(true) => {}
                // A person was faster; the answer is on its way, and is let in.
                Ok(false) => {
                    self.interview.reopen(id, Instant::now() + Duration::from_secs(10), decision);
                    continue;
                }
                Err(error) => tracing::warn!(task = %lease.task, %error, "the expiry could not be stored"),
            }
            let notice = format!("nobody answered {id} in time; the default holds");
            self.said.log.write(LoggedEvent::Agent(TurnEvent::Notice(text::clean(notice)))).await;
            self.back_to_work(ready, seat).await;
            self.tell(PermissionAnswer { agent_request_id: id, decision }).await;
        }
    }

    async fn back_to_work(&mut self, ready: &Ready, seat: &mut Seat) {
        if self.interview.waits() {
            return;
        }
        ready.slot.awaiting_permission(false);
        if seat.hand.is_none() {
            tokio::select! {
                hand = self.turn.engine.hands.clone().acquire_owned() => seat.hand = hand.ok(),
                _ = stopped(seat.stop.clone()) => {}
            }
        }
        self.last_heard = Instant::now();
    }

    async fn tell(&self, answer: PermissionAnswer) {
        // The backend may have ended the turn meanwhile.
        let _ = self.to_agent.send(answer).await;
    }

    fn progress_deadline(&self) -> Option<Instant> {
        (!self.interview.waits()).then(|| self.last_heard + Duration::from_secs(self.profile.stall_secs))
    }

    fn stop(&self, cause: StopCause) {
        self.turn.engine.leases.stop(self.turn.task.lease, Stop { cause, force: StopForce::Ask });
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
