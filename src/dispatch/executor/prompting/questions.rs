//! Questions of a running turn on their way to their rows, and answers on their way back. Every wait ends when the turn is
//! stopped or over. Never decides what is allowed: the interview does.

use super::super::prepare::Ready;
use super::super::{Seat, stopped};
use super::{Prompting, sleep_until};
use crate::dispatch::interview;
use crate::dispatch::task_source::{PermissionAsk, SourceError, Standing};
use crate::domain::permission::{PermissionAnswer, PermissionDecision, PermissionRequest};
use crate::domain::turn::{LoggedEvent, Stop, StopCause, TurnEvent};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// Between two tries while the database is away.
const RETRY_EVERY: Duration = Duration::from_secs(1);

/// What became of a question on its way to its row.
enum Asked {
    Stored,
    /// The row cannot be: nobody will ever see the question.
    Refused,
    /// The turn is stopped or over.
    TooLate,
}

impl Prompting<'_> {
    pub(super) async fn ask(&mut self, request: PermissionRequest, ready: &Ready, seat: &mut Seat) {
        let agent_request_id = request.agent_request_id.clone();
        let ask = self.interview.ask(request, Instant::now());
        let decision = match (self.store(&ask, seat).await, ask.answered) {
            (Asked::Stored, Some(decision)) => decision,
            (Asked::Stored, None) => {
                if let Some(deadline) = ask.deadline {
                    // The row's deadline runs since now, not since the first try.
                    self.interview.postpone(&agent_request_id, Instant::now() + deadline);
                }
                return self.wait_for_a_person(ready, seat);
            }
            (Asked::Refused, _) => interview::deny("the question could not be stored"),
            (Asked::TooLate, _) => {
                self.interview.close(&agent_request_id);
                return;
            }
        };
        self.interview.close(&agent_request_id);
        self.tell(PermissionAnswer { agent_request_id, decision }, seat).await;
    }

    /// Tries for as long as the database is away and the turn may last.
    async fn store(&mut self, ask: &PermissionAsk, seat: &Seat) -> Asked {
        let (engine, task) = (self.turn.engine, self.turn.task);
        loop {
            let stored = tokio::select! {
                stored = engine.source.ask_permission(&task.lease, &task.agent, ask) => stored,
                () = self.is_moot(&seat.stop) => return Asked::TooLate,
            };
            match stored {
                Ok(()) => return Asked::Stored,
                Err(SourceError::LostLease) => {
                    self.stop(StopCause::LeaseLost);
                    return Asked::TooLate;
                }
                Err(SourceError::Unavailable(error)) => {
                    tracing::warn!(task = %task.lease.task, %error, "a question waits for the database");
                }
                Err(error @ (SourceError::BadValue(_) | SourceError::Failed(_))) => {
                    tracing::error!(task = %task.lease.task, %error, "a question could not be stored and is denied");
                    return Asked::Refused;
                }
            }
            tokio::select! {
                () = tokio::time::sleep(RETRY_EVERY) => {}
                () = sleep_until(self.length_deadline()) => self.too_long(),
                () = self.is_moot(&seat.stop) => return Asked::TooLate,
            }
        }
    }

    /// A turn that waits for a person holds its lane, not one of the node's hands.
    fn wait_for_a_person(&mut self, ready: &Ready, seat: &mut Seat) {
        self.waiting_since.get_or_insert_with(Instant::now);
        ready.slot.awaiting_permission(true);
        seat.hand = None;
        self.turn.engine.hand_freed.notify_one();
    }

    /// A person answered. The same answer may come twice; only an open question takes it.
    pub(super) async fn answer(&mut self, answer: PermissionAnswer, ready: &Ready, seat: &mut Seat) {
        if let Some(agent_request_id) = self.interview.close(&answer.agent_request_id) {
            self.resolved(&agent_request_id, &answer.decision, false).await;
            self.back_to_work(ready, seat).await;
            self.tell(PermissionAnswer { agent_request_id, ..answer }, seat).await;
        }
    }

    /// Deadlines have passed: the rows say whether the defaults hold or answers stand that never came here.
    pub(super) async fn expire(&mut self, ready: &Ready, seat: &mut Seat) {
        let (engine, lease) = (self.turn.engine, self.turn.task.lease);
        for (agent_request_id, fallback) in self.interview.due(Instant::now()) {
            let standing = tokio::select! {
                standing = engine.source.expire_permission(&lease, &agent_request_id, &fallback) => standing,
                () = self.is_moot(&seat.stop) => return,
            };
            let expired = matches!(standing, Ok(Standing::Expired));
            let decision = match standing {
                Ok(Standing::Answered(decision)) => decision,
                Ok(Standing::Expired) => {
                    let id = interview::row_id(&agent_request_id);
                    let notice = format!("nobody answered {id} in time; the default holds");
                    self.keep(TurnEvent::Notice(notice)).await;
                    fallback
                }
                // Told now, the default might stand against what a person is told a moment later.
                Err(SourceError::Unavailable(error)) => {
                    tracing::warn!(task = %lease.task, %error, "an expired question waits for the database");
                    self.interview.postpone(&agent_request_id, Instant::now() + RETRY_EVERY);
                    continue;
                }
                Err(SourceError::LostLease) => return self.stop(StopCause::LeaseLost),
                Err(error @ (SourceError::BadValue(_) | SourceError::Failed(_))) => {
                    tracing::error!(task = %lease.task, %error, "the expiry could not be stored");
                    fallback
                }
            };
            self.interview.close(&agent_request_id);
            self.resolved(&agent_request_id, &decision, expired).await;
            self.back_to_work(ready, seat).await;
            self.tell(PermissionAnswer { agent_request_id, decision }, seat).await;
        }
    }

    /// Whoever follows the turn hears that nobody needs to answer any more.
    async fn resolved(&self, request: &str, decision: &PermissionDecision, expired: bool) {
        let (request, decision) = (request.to_owned(), decision.clone());
        self.log.write(LoggedEvent::PermissionResolved { request, decision, expired }).await;
    }

    /// With the last answer the turn takes a hand again; until then nothing counts towards its length.
    async fn back_to_work(&mut self, ready: &Ready, seat: &mut Seat) {
        if self.interview.waits() {
            return;
        }
        ready.slot.awaiting_permission(false);
        if seat.hand.is_none() {
            tokio::select! {
                hand = self.turn.engine.hands.clone().acquire_owned() => seat.hand = hand.ok(),
                () = self.is_moot(&seat.stop) => {}
            }
        }
        self.last_heard = Instant::now();
        let waited = self.waiting_since.take().map_or(Duration::ZERO, |since| since.elapsed());
        self.length_until = self.length_until.and_then(|until| until.checked_add(waited));
    }

    async fn tell(&self, answer: PermissionAnswer, seat: &Seat) {
        tokio::select! {
            biased;
            // The backend may have ended the turn meanwhile.
            _ = self.to_agent.send(answer) => {}
            () = self.is_moot(&seat.stop) => {}
        }
    }

    /// Resolves when no question matters any more: a stop was asked, or the agent's part is over.
    async fn is_moot(&self, stop: &watch::Receiver<Option<Stop>>) {
        tokio::select! {
            _ = stopped(stop.clone()) => {}
            () = self.over.cancelled() => {}
        }
    }
}
