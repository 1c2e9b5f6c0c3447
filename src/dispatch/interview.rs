//! Questions that an agent asks during one turn: answered by policy, or put to a person with a deadline. Knows no channel and
//! no clock but those it is given.

use super::task_source::PermissionAsk;
use crate::domain::agent::{PermissionDefault, PermissionPolicy};
use crate::domain::permission::{PermissionDecision, PermissionKind, PermissionRequest};
use std::collections::HashMap;
use std::time::Duration;
use tokio::time::Instant;

/// The open questions of a turn.
pub(super) struct Interview {
    policy: PermissionPolicy,
    open: HashMap<String, Open>,
}

struct Open {
    deadline: Instant,
    fallback: PermissionDecision,
}

impl Interview {
    pub(super) fn new(policy: PermissionPolicy) -> Self {
        Self { policy, open: HashMap::new() }
    }

    /// Takes a question: what to store, with the answer if the policy has one. Otherwise it is open from now on.
    pub(super) fn ask(&mut self, request: PermissionRequest, now: Instant) -> PermissionAsk {
        match self.policy {
            PermissionPolicy::Allow => answered(allow(request.kind), request),
            PermissionPolicy::Deny => answered(deny("refused by this agent's policy"), request),
            PermissionPolicy::Ask { deadline_secs, fallback } => {
                let deadline = Duration::from_secs(u64::from(deadline_secs));
                let fallback = match fallback {
                    PermissionDefault::Allow => allow(request.kind),
                    PermissionDefault::Deny => deny("nobody answered in time"),
                };
                self.open
                    .insert(request.agent_request_id.clone(), Open { deadline: now + deadline, fallback });
                PermissionAsk { request, answered: None, deadline: Some(deadline) }
            }
        }
    }

    /// A person answered. False when the question is not open (asked never, answered before, expired).
    pub(super) fn answered(&mut self, request: &str) -> bool {
        self.open.remove(request).is_some()
    }

    /// An expired question that a person had answered at the last moment: open again until that answer arrives.
    pub(super) fn reopen(&mut self, request: String, deadline: Instant, fallback: PermissionDecision) {
        self.open.insert(request, Open { deadline, fallback });
    }

    /// Does a person have to answer?
    pub(super) fn waits(&self) -> bool {
        !self.open.is_empty()
    }

    /// When the next question expires.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.open.values().map(|open| open.deadline).min()
    }

    /// The questions that have expired, with their default answers; they are no longer open.
    pub(super) fn expired(&mut self, now: Instant) -> Vec<(String, PermissionDecision)> {
        self.open.extract_if(|_, open| open.deadline <= now).map(|(id, open)| (id, open.fallback)).collect()
    }
}

fn answered(decision: PermissionDecision, request: PermissionRequest) -> PermissionAsk {
    PermissionAsk { request, answered: Some(decision), deadline: None }
}

fn allow(kind: PermissionKind) -> PermissionDecision {
    match kind {
        PermissionKind::Tool | PermissionKind::Plan => PermissionDecision::AllowOnce,
        // A policy can say yes, but it cannot know an answer.
        PermissionKind::Question | PermissionKind::Elicitation => {
            deny("nobody is here to answer: decide for yourself and say what you assumed")
        }
    }
}

fn deny(message: &str) -> PermissionDecision {
    PermissionDecision::Deny { message: Some(message.to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn question(id: &str) -> PermissionRequest {
        PermissionRequest {
            agent_request_id: id.into(),
            kind: PermissionKind::Tool,
            title: "bash: ls".into(),
            payload: Value::Null,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_unanswered_question_expires_into_its_default() {
        let policy = PermissionPolicy::Ask { deadline_secs: 60, fallback: PermissionDefault::Allow };
        let mut interview = Interview::new(policy);
        let now = Instant::now();
        assert_eq!(interview.ask(question("a"), now).answered, None);
        assert!(interview.waits());
        assert!(interview.expired(now + Duration::from_secs(59)).is_empty());
        let expired = interview.expired(now + Duration::from_secs(60));
        assert_eq!(expired, [("a".to_owned(), PermissionDecision::AllowOnce)]);
        assert!(!interview.answered("a"), "an answer after the deadline comes too late");
    }

    #[tokio::test(start_paused = true)]
    async fn a_policy_always_answers() {
        for policy in [PermissionPolicy::Allow, PermissionPolicy::Deny] {
            let mut interview = Interview::new(policy);
            assert!(interview.ask(question("a"), Instant::now()).answered.is_some());
            assert!(!interview.waits());
        }
    }
}
