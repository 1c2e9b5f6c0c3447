//! Questions of a running turn on their way to their rows, and answers on their way back. Every wait ends when the turn is
//! stopped or over. Never decides what is allowed: the interview does.

use super::super::prepare::Ready;
use super::super::{Seat, stopped};
use super::{Prompting, sleep_until};
use crate::dispatch::interview;
use crate::dispatch::task_source::{PermissionAsk, SourceError, Standing};
use crate::domain::permission::{PermissionAnswer, PermissionDecision, PermissionRequest};
use crate::domain::permission_rule::{self, StandingRule};
use crate::domain::turn::{LoggedEvent, Stop, StopCause, TurnEvent};
use std::future::Future;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// Between two tries while the database is away.
const RETRY_EVERY: Duration = Duration::from_secs(1);

/// What became of a call to the other side.
enum Called<T> {
    Done(T),
    /// It will not do it.
    Refused,
    /// The turn is stopped or over.
    TooLate,
}

/// Where a question stands once its row is written.
pub(super) enum Asked {
    /// A person has to answer.
    Open,
    /// A standing rule has answered.
    ByRule(PermissionDecision),
    /// The policy has answered, or nobody needs to any more.
    Closed,
}

impl Prompting<'_> {
    /// Puts a question to rules, policy and people, in this order.
    pub(super) async fn ask(&mut self, request: &PermissionRequest, ready: &Ready, seat: &mut Seat) -> Asked {
        let agent_request_id = request.agent_request_id.clone();
        let rule = match self.standing_rule(request, ready, seat).await {
            Called::Done(rule) => rule,
            Called::Refused => {
                let decision = interview::deny("the standing rules could not be read");
                self.tell(PermissionAnswer { agent_request_id, decision }, seat).await;
                return Asked::Closed;
            }
            Called::TooLate => return Asked::Closed,
        };
        let mut ask = self.interview.ask(request.clone(), rule.as_ref(), Instant::now());
        let by_rule = ask.rule.is_some();
        // Rules are for what was asked; what is kept of it is without secrets.
        ask.request = self.profile.redactor.redact_question(ask.request);
        let decision = match (self.store(&ask, seat).await, ask.answered) {
            (Called::Done(()), Some(decision)) => decision,
            (Called::Done(()), None) => {
                if let Some(deadline) = ask.deadline {
                    // The row's deadline runs since now, not since the first try.
                    self.interview.postpone(&agent_request_id, Instant::now() + deadline);
                }
                self.wait_for_a_person(ready, seat);
                return Asked::Open;
            }
            (Called::Refused, _) => interview::deny("the question could not be stored"),
            (Called::TooLate, _) => {
                self.interview.close(&agent_request_id);
                return Asked::Closed;
            }
        };
        self.interview.close(&agent_request_id);
        self.tell(PermissionAnswer { agent_request_id, decision: decision.clone() }, seat).await;
        if by_rule { Asked::ByRule(decision) } else { Asked::Closed }
    }

    /// Whoever follows the turn has seen the question. A rule that was made between the look at the rules and the row of the
    /// question has seen neither the other: so there is a second look, after the row.
    pub(super) async fn after_asking(
        &mut self,
        asked: Asked,
        request: &PermissionRequest,
        ready: &Ready,
        seat: &mut Seat,
    ) {
        let id = &request.agent_request_id;
        match asked {
            Asked::Closed => {}
            Asked::ByRule(decision) => self.resolved(id, &decision, false).await,
            Asked::Open => {
                let Called::Done(Some(rule)) = self.standing_rule(request, ready, seat).await else { return };
                let (source, lease) = (&self.turn.engine.source, self.turn.task.lease);
                let answered = self.insist(seat, || source.answer_by_rule(&lease, id, &rule)).await;
                if let Called::Done(decision) = answered {
                    let answer = PermissionAnswer { agent_request_id: id.clone(), decision };
                    self.answer(answer, ready, seat).await;
                }
            }
        }
    }

    /// The standing rule that holds for this question now.
    async fn standing_rule(
        &mut self,
        request: &PermissionRequest,
        ready: &Ready,
        seat: &Seat,
    ) -> Called<Option<StandingRule>> {
        if !self.interview.heeds_rules(request) {
            return Called::Done(None);
        }
        let (source, task) = (&self.turn.engine.source, self.turn.task);
        let rules = self.insist(seat, || source.standing_rules(&task.lease, &task.agent)).await;
        match rules {
            Called::Done(rules) => {
                let worktree = ready.worktree.path.to_str();
                Called::Done(permission_rule::ruling(&rules, request, worktree).cloned())
            }
            Called::Refused => Called::Refused,
            Called::TooLate => Called::TooLate,
        }
    }

    async fn store(&mut self, ask: &PermissionAsk, seat: &Seat) -> Called<()> {
        let (source, task) = (&self.turn.engine.source, self.turn.task);
        self.insist(seat, || source.ask_permission(&task.lease, &task.agent, ask)).await
    }

    /// Tries for as long as the database is away and the turn may last.
    async fn insist<T, F: Future<Output = Result<T, SourceError>>>(
        &mut self,
        seat: &Seat,
        mut call: impl FnMut() -> F,
    ) -> Called<T> {
        let task = self.turn.task.lease.task;
        loop {
            let called = tokio::select! {
                called = call() => called,
                () = self.is_moot(&seat.stop) => return Called::TooLate,
            };
            match called {
                Ok(done) => return Called::Done(done),
                Err(SourceError::LostLease) => {
                    self.stop(StopCause::LeaseLost);
                    return Called::TooLate;
                }
                Err(SourceError::Unavailable(error)) => {
                    tracing::warn!(%task, %error, "a question waits for the database");
                }
                Err(error @ (SourceError::BadValue(_) | SourceError::Failed(_))) => {
                    tracing::error!(%task, %error, "what a question needs could not be read or written");
                    return Called::Refused;
                }
            }
            tokio::select! {
                () = tokio::time::sleep(RETRY_EVERY) => {}
                () = sleep_until(self.length_deadline()) => self.too_long(),
                () = self.is_moot(&seat.stop) => return Called::TooLate,
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
    async fn resolved(&mut self, request: &str, decision: &PermissionDecision, expired: bool) {
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
