//! One turn: settings, prompt, and then what the agent says, what it asks, and what stops it, until the agent's own answer to
//! this prompt. Runs in a task of its own, so that a caller that goes away leaves a turn that ends by itself.

use super::conversation::Hearing;
use super::ending;
use super::life::Life;
use super::permission;
use super::process::CallError;
use super::roster::Live;
use super::router::Ask;
use super::settings;
use super::translate::Translation;
use crate::backend::{BackendError, Prompt, TurnIo};
use crate::domain::failure::FailureReason;
use crate::domain::permission::{PermissionAnswer, PermissionDecision};
use crate::domain::task::TaskSettings;
use crate::domain::turn::{Stop, StopForce, TurnEnd, TurnEvent};
use crate::domain::usage::Usage;
use serde_json::{Value, json};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Events that wait for a slow store before the agent is made to wait.
const OUTBOX_MAX: usize = 32;
/// Pieces of text that wait are put together up to this, in bytes.
const TEXT_BYTES_MAX: usize = 16 << 10;

/// One turn to its end.
///
/// # Errors
/// As [`crate::backend::AgentBackend::prompt`].
///
/// # Cancel safety
/// Dropping the future makes the turn cancel itself.
pub(super) async fn run(
    life: &Arc<Life>,
    live: Live,
    prompt: &Prompt,
    io: TurnIo,
) -> Result<TurnEnd, BackendError> {
    let detached = CancellationToken::new();
    let _detach = detached.clone().drop_guard();
    let (text, settings) = (prompt.text.clone(), prompt.settings.clone());
    let turn = Turn { life: Arc::clone(life), live, detached };
    let running = life.tracker.spawn(turn.run(text, settings, io));
    running.await.unwrap_or_else(|panic| {
        Err(BackendError::turn(FailureReason::Internal, format!("the turn failed: {panic}")))
    })
}

struct Turn {
    life: Arc<Life>,
    live: Live,
    /// Nobody waits for the turn any more.
    detached: CancellationToken,
}

/// Where a turn stands that is to be stopped.
#[derive(Clone, Copy)]
struct Stopping {
    /// When it is asked again: a cancel can be lost.
    again: Instant,
    /// When asking is over.
    until: Instant,
}

/// What a running turn holds.
struct Course<'a> {
    turn: &'a Turn,
    translation: Translation,
    outbox: VecDeque<TurnEvent>,
    /// Questions that wait for an answer, by our id of them.
    asked: HashMap<String, Box<Ask>>,
    stopping: Option<Stopping>,
    deaf: bool,
}

impl Turn {
    async fn run(
        self,
        text: String,
        settings: TaskSettings,
        mut io: TurnIo,
    ) -> Result<TurnEnd, BackendError> {
        let (process, conversation) = (&self.live.process, &self.live.conversation);
        let _right = tokio::select! {
            right = conversation.begin() => right,
            reason = process.lost() => return Err(BackendError::Lost(reason)),
            () = self.stopped_before(&mut io) => return Ok(TurnEnd::Cancelled),
        };
        let notices = tokio::select! {
            notices = settings::apply(process, conversation, &self.live.base, &settings) => {
                notices.map_err(ending::of_error)?
            }
            () = self.stopped_before(&mut io) => return Ok(TurnEnd::Cancelled),
        };
        conversation.settled().await;
        let end = self.converse(text, notices, io).await;
        conversation.stop_listening();
        process.turn_ended();
        end
    }

    async fn converse(
        &self,
        text: String,
        notices: Vec<String>,
        mut io: TurnIo,
    ) -> Result<TurnEnd, BackendError> {
        let (process, conversation) = (&self.live.process, &self.live.conversation);
        let mut hearing = conversation.listen();
        let (cost_before, title) = {
            let told = conversation.told();
            (told.cost_usd, told.title.clone())
        };
        let stale = std::mem::take(&mut *self.live.stale.lock().unwrap_or_else(PoisonError::into_inner));
        let mut course = Course {
            turn: self,
            translation: Translation::new(stale, title),
            outbox: notices.into_iter().map(TurnEvent::Notice).collect(),
            asked: HashMap::new(),
            stopping: None,
            deaf: false,
        };
        let params = json!({"sessionId": conversation.id, "prompt": [{"type": "text", "text": text}]});
        let answer = course.follow(process.ask("session/prompt", params), &mut hearing, &mut io).await;
        // What was said before the answer is in the channel by now.
        while let Ok(said) = hearing.said.try_recv() {
            if let Some(event) = course.translation.take(said) {
                course.push(event);
            }
        }
        course.translation.close().into_iter().for_each(|event| course.push(event));
        let usage = answer.as_ref().map(|answer| Usage {
            cost_usd: (conversation.told().cost_usd - cost_before).max(0.0),
            ..ending::usage_of(answer)
        });
        if let Ok(usage) = usage
            && !usage.is_zero()
        {
            course.push(TurnEvent::Usage(usage));
        }
        course.cancel_questions(&mut hearing);
        let was_stopped = course.stopping.is_some();
        let was_refused = course.translation.was_refused();
        course.flush(&io.events).await;
        let end = match &answer {
            Ok(answer) => {
                let usage = usage.unwrap_or_default();
                ending::of_answer(answer, usage, course.translation.short_answer())
            }
            Err(_) => Ok(TurnEnd::Cancelled),
        };
        if was_stopped || !matches!(end, Ok(TurnEnd::Completed { .. })) {
            conversation.is_unsettled();
            *self.live.stale.lock().unwrap_or_else(PoisonError::into_inner) = course.translation.open_calls();
        }
        match answer {
            // Agents answer a cancel that came early with an end like any other.
            Ok(_) if was_stopped => Ok(TurnEnd::Cancelled),
            // Nobody cancelled: that is how some agents end a turn in which they were refused something.
            Ok(_) if matches!(end, Ok(TurnEnd::Cancelled)) && was_refused => Ok(TurnEnd::Completed {
                stop_reason: "refused_permission".to_owned(),
                usage: usage.unwrap_or_default(),
            }),
            Ok(_) => end,
            Err(error) => Err(ending::of_error(error)),
        }
    }

    /// Resolves when the turn is to stop before it was prompted.
    async fn stopped_before(&self, io: &mut TurnIo) {
        tokio::select! {
            // A closed channel means the same.
            _ = io.stop.wait_for(Option::is_some) => {}
            () = self.detached.cancelled() => {}
        }
    }
}

impl Course<'_> {
    /// Until the agent answers the prompt, or is gone.
    async fn follow(
        &mut self,
        prompted: impl Future<Output = Result<Value, CallError>>,
        hearing: &mut Hearing,
        io: &mut TurnIo,
    ) -> Result<Value, CallError> {
        let mut prompted = std::pin::pin!(prompted);
        let detached = self.turn.detached.clone();
        let (mut answers_open, mut stop_open) = (true, true);
        let standing = *io.stop.borrow_and_update();
        if let Some(stop) = standing {
            self.stop(stop.force);
        }
        loop {
            let room = self.outbox.len() < OUTBOX_MAX || self.deaf;
            let next = self.stopping.map(|stopping| stopping.again.min(stopping.until));
            tokio::select! {
                biased;
                answer = &mut prompted => return answer,
                changed = io.stop.changed(), if stop_open => match changed {
                    Ok(()) => if let Some(Stop { force, .. }) = *io.stop.borrow_and_update() {
                        self.stop(force);
                    },
                    Err(_) => {
                        stop_open = false;
                        self.detach();
                    }
                },
                () = detached.cancelled(), if !self.deaf => self.detach(),
                () = sleep_until(next), if next.is_some() => self.press(),
                Some(ask) = hearing.asks.recv() => self.ask(ask),
                answer = io.answers.recv(), if answers_open => match answer {
                    Some(answer) => self.answer(&answer),
                    None => answers_open = false,
                },
                Some(said) = hearing.said.recv(), if room => {
                    if let Some(event) = self.translation.take(said) {
                        self.push(event);
                    }
                }
                permit = io.events.reserve(), if !self.outbox.is_empty() && !self.deaf => match permit {
                    Ok(permit) => if let Some(event) = self.outbox.pop_front() {
                        permit.send(event);
                    },
                    Err(_) => self.detach(),
                },
            }
        }
    }

    fn push(&mut self, event: TurnEvent) {
        if self.deaf {
            return;
        }
        if let (TurnEvent::Text(more), Some(TurnEvent::Text(text))) = (&event, self.outbox.back_mut())
            && text.len() + more.len() <= TEXT_BYTES_MAX
        {
            text.push_str(more);
            return;
        }
        self.outbox.push_back(event);
    }

    /// Nobody listens any more: the turn is ended for its own sake.
    fn detach(&mut self) {
        self.deaf = true;
        self.outbox.clear();
        self.stop(StopForce::Ask);
    }

    fn stop(&mut self, force: StopForce) {
        if force > StopForce::Ask {
            self.turn.live.process.stop(force);
        }
        if self.stopping.is_none() {
            let patience = &self.turn.life.config().patience;
            let now = Instant::now();
            self.stopping = Some(Stopping { again: now, until: now + patience.cancel });
            // The protocol's duty: none is left open behind a cancel.
            self.asked.drain().for_each(|(_, ask)| ask.cancel());
            self.press();
        }
    }

    /// Asks the agent to cancel, again and again; then ends its process.
    fn press(&mut self) {
        let Some(stopping) = &mut self.stopping else { return };
        let live = &self.turn.live;
        let now = Instant::now();
        if now >= stopping.until {
            tracing::warn!(
                agent = self.turn.life.config().name,
                pid = live.process.pid,
                "the agent does not cancel its turn: it is ended"
            );
            live.process.stop(StopForce::Terminate);
            stopping.until = now + Duration::from_secs(3600);
            stopping.again = stopping.until;
            return;
        }
        live.process.tell("session/cancel", json!({"sessionId": live.conversation.id}));
        stopping.again = now + self.turn.life.config().patience.cancel_again;
    }

    fn ask(&mut self, ask: Box<Ask>) {
        if self.stopping.is_some() {
            ask.cancel();
            return;
        }
        let id = serde_json::to_string(ask.responder.id()).unwrap_or_default();
        let fields = ask.request.tool_call.fields.clone();
        let kind = fields.kind;
        let (call, announced) = self.translation.announce(&ask.request.tool_call.tool_call_id.0, fields);
        if let Some(event) = announced {
            self.push(event);
        }
        let request = permission::request(id.clone(), &call, kind, &ask.request.options);
        self.push(TurnEvent::Permission(request));
        self.asked.insert(id, ask);
    }

    fn answer(&mut self, answer: &PermissionAnswer) {
        // Answered twice, or never asked: nobody's.
        let Some(ask) = self.asked.remove(&answer.agent_request_id) else { return };
        let outcome = permission::outcome(&answer.decision, &ask.request.options);
        if matches!(answer.decision, PermissionDecision::Deny { .. }) {
            self.translation.refused(&ask.request.tool_call.tool_call_id.0);
        }
        let response = agent_client_protocol::v1::schema::RequestPermissionResponse::new(outcome);
        let _ = ask.responder.respond(response);
    }

    fn cancel_questions(&mut self, hearing: &mut Hearing) {
        self.asked.drain().for_each(|(_, ask)| ask.cancel());
        while let Ok(ask) = hearing.asks.try_recv() {
            ask.cancel();
        }
    }

    /// The rest of what was said, at the reader's pace.
    async fn flush(&mut self, events: &mpsc::Sender<TurnEvent>) {
        let detached = self.turn.detached.clone();
        while let Some(event) = self.outbox.pop_front() {
            tokio::select! {
                sent = events.send(event) => if sent.is_err() { return },
                () = detached.cancelled() => return,
            }
        }
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
