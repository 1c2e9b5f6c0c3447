//! Questions that an agent asks during one turn: answered by a standing rule or by policy, or put to a person with a deadline.
//! Knows no channel and no clock but those it is given; never stores anything.

use super::task_source::PermissionAsk;
use crate::domain::agent::{PermissionDefault, PermissionPolicy, PermissionRule};
use crate::domain::permission::{Access, PermissionDecision, PermissionKind, PermissionRequest};
use crate::domain::permission_rule::{RuleDecision, StandingRule};
use crate::domain::text;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::time::Duration;
use tokio::time::Instant;

/// Longest agent's request id that its row holds as it is, in bytes: far below what an index entry can hold (2,704).
const ROW_ID_BYTES_MAX: usize = 512;

/// The open questions of a turn, by the id of their rows.
pub(super) struct Interview {
    policy: PermissionPolicy,
    open: HashMap<String, Open>,
}

struct Open {
    /// The agent's own id, as it wants to hear it again.
    agent_request_id: String,
    deadline: Instant,
    fallback: PermissionDecision,
}

/// The id under which a row holds a request: the agent's own, unless a row cannot hold that (NUL, too long); then its
/// readable beginning with a digest, so that no two requests share a row. A row's id is its own row id.
pub(super) fn row_id(agent_request_id: &str) -> String {
    let clean = text::clean(agent_request_id.to_owned());
    if clean == agent_request_id && clean.len() <= ROW_ID_BYTES_MAX {
        return clean;
    }
    let digest: String =
        Sha256::digest(agent_request_id).iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    let beginning = &clean[..clean.floor_char_boundary(ROW_ID_BYTES_MAX / 2)];
    format!("{beginning}#{digest}")
}

impl Interview {
    pub(super) fn new(policy: PermissionPolicy) -> Self {
        Self { policy, open: HashMap::new() }
    }

    /// May a standing rule change the answer? A policy that refuses everything needs none.
    pub(super) fn heeds_rules(&self, request: &PermissionRequest) -> bool {
        request.kind == PermissionKind::Tool && self.policy.rule != PermissionRule::Deny
    }

    /// Takes a question, with the standing rule that matches it: what to store, with the answer if there is one. Otherwise
    /// it is open from now on. What a rule forbids is refused under every policy; what it allows is allowed where a person
    /// would be asked, and loosens no policy that answers by itself.
    pub(super) fn ask(
        &mut self,
        request: PermissionRequest,
        rule: Option<&StandingRule>,
        now: Instant,
    ) -> PermissionAsk {
        let rule = rule.filter(|rule| {
            self.heeds_rules(&request)
                && (rule.decision() == RuleDecision::Deny || self.policy.rule == PermissionRule::Ask)
        });
        if let Some(rule) = rule {
            return PermissionAsk { rule: Some(rule.id), ..answered(rule.answer(), request) };
        }
        match self.policy.rule {
            PermissionRule::Allow => answered(allow(request.kind), request),
            PermissionRule::AllowReads => answered(allow_reads(&request), request),
            PermissionRule::Deny => answered(deny("refused by the permission policy"), request),
            PermissionRule::Ask => {
                let deadline = Duration::from_secs(u64::from(self.policy.deadline_secs));
                let fallback = match self.policy.fallback {
                    PermissionDefault::Allow => allow(request.kind),
                    PermissionDefault::Deny => deny("nobody answered in time"),
                };
                let agent_request_id = request.agent_request_id.clone();
                let open = Open { agent_request_id, deadline: now + deadline, fallback };
                self.open.insert(row_id(&request.agent_request_id), open);
                PermissionAsk { request, answered: None, rule: None, deadline: Some(deadline) }
            }
        }
    }

    /// A question is closed: answered, expired, or never stored. The agent's own id, or `None` when it was not open (asked
    /// never, answered before, expired): then its answer is a double and nobody's. Takes the row's id or the agent's.
    pub(super) fn close(&mut self, request: &str) -> Option<String> {
        self.open.remove(&row_id(request)).map(|open| open.agent_request_id)
    }

    /// Does a person have to answer?
    pub(super) fn waits(&self) -> bool {
        !self.open.is_empty()
    }

    /// When the next question falls due.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.open.values().map(|open| open.deadline).min()
    }

    /// The questions whose deadline has passed, by the agent's own ids, with their default answers. They stay open until
    /// they are closed: it is the rows that know whether a person was faster.
    pub(super) fn due(&self, now: Instant) -> Vec<(String, PermissionDecision)> {
        let due = self.open.values().filter(|open| open.deadline <= now);
        due.map(|open| (open.agent_request_id.clone(), open.fallback.clone())).collect()
    }

    /// The rows cannot be asked now: the question falls due again later.
    pub(super) fn postpone(&mut self, request: &str, deadline: Instant) {
        if let Some(open) = self.open.get_mut(&row_id(request)) {
            open.deadline = deadline;
        }
    }
}

fn answered(decision: PermissionDecision, request: PermissionRequest) -> PermissionAsk {
    PermissionAsk { request, answered: Some(decision), rule: None, deadline: None }
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

fn allow_reads(request: &PermissionRequest) -> PermissionDecision {
    match (request.kind, request.access) {
        // Their answer changes nothing, and is given as if all were allowed.
        (PermissionKind::Question | PermissionKind::Elicitation, _) => allow(request.kind),
        (PermissionKind::Tool, Access::Read) => PermissionDecision::AllowOnce,
        (PermissionKind::Tool | PermissionKind::Plan, Access::Read | Access::Write) => {
            deny("refused: the permission policy here is allow_reads, and this would change something")
        }
        (PermissionKind::Tool | PermissionKind::Plan, Access::Unknown) => deny(
            "refused: the permission policy here is allow_reads, and this does not say that it only reads",
        ),
    }
}

pub(super) fn deny(message: &str) -> PermissionDecision {
    PermissionDecision::Deny { message: Some(message.to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::permission_rule::RuleText;
    use serde_json::Value;

    fn question(id: &str) -> PermissionRequest {
        PermissionRequest {
            agent_request_id: id.into(),
            kind: PermissionKind::Tool,
            access: Access::Write,
            title: "bash: ls".into(),
            payload: Value::Null,
        }
    }

    fn policy(rule: PermissionRule, fallback: PermissionDefault) -> PermissionPolicy {
        PermissionPolicy { rule, deadline_secs: 60, fallback }
    }

    #[tokio::test(start_paused = true)]
    async fn an_unanswered_question_expires_into_its_default() {
        let policy = policy(PermissionRule::Ask, PermissionDefault::Allow);
        let mut interview = Interview::new(policy);
        let now = Instant::now();
        assert_eq!(interview.ask(question("a"), None, now).answered, None);
        assert!(interview.waits());
        assert!(interview.due(now + Duration::from_secs(59)).is_empty());
        let due = interview.due(now + Duration::from_secs(60));
        assert_eq!(due, [("a".to_owned(), PermissionDecision::AllowOnce)]);
        assert!(interview.waits(), "the row has not said yet that nobody was faster");
        assert_eq!(interview.close("a").as_deref(), Some("a"));
        assert_eq!(interview.close("a"), None, "an answer after the deadline comes too late");
    }

    #[tokio::test(start_paused = true)]
    async fn a_question_whose_row_cannot_be_asked_falls_due_again() {
        let policy = policy(PermissionRule::Ask, PermissionDefault::Deny);
        let mut interview = Interview::new(policy);
        let now = Instant::now();
        interview.ask(question("a"), None, now);
        let later = now + Duration::from_secs(61);
        interview.postpone("a", later);
        assert_eq!(interview.next_deadline(), Some(later));
        assert!(interview.due(now + Duration::from_secs(60)).is_empty());
        assert_eq!(interview.due(later).len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn the_answer_of_a_row_finds_its_question_whatever_the_agents_id_is_made_of() {
        let policy = policy(PermissionRule::Ask, PermissionDefault::Deny);
        let long = "x".repeat(9_000);
        for id in ["a", "a\0b", "", "\0", &long] {
            let mut interview = Interview::new(policy);
            interview.ask(question(id), None, Instant::now());
            let row = row_id(id);
            assert!(!row.contains('\0') && row.len() <= ROW_ID_BYTES_MAX, "{row:?}");
            assert_eq!(row_id(&row), row);
            assert_eq!(interview.close(&row).as_deref(), Some(id), "the agent hears its own id");
        }
        assert_ne!(row_id("a\0b"), row_id("a\u{FFFD}b"), "no two requests share a row");
        assert_ne!(row_id(&long), row_id(&"x".repeat(9_001)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_policy_always_answers() {
        for rule in [PermissionRule::Allow, PermissionRule::AllowReads, PermissionRule::Deny] {
            let mut interview = Interview::new(policy(rule, PermissionDefault::Deny));
            assert!(interview.ask(question("a"), None, Instant::now()).answered.is_some());
            assert!(!interview.waits());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_rule_forbids_is_refused_under_every_policy_and_what_it_allows_is_asked_of_nobody() {
        let rule = |decision| {
            let text = RuleText { tool: "edit".into(), pattern: None, exact: false };
            StandingRule::new(uuid::Uuid::nil(), text, decision).unwrap()
        };
        let (allows, denies) = (rule(RuleDecision::Allow), rule(RuleDecision::Deny));
        for policy_rule in PermissionRule::ALL {
            let mut interview = Interview::new(policy(policy_rule, PermissionDefault::Deny));
            let mut ask = |rule, kind| {
                interview.ask(PermissionRequest { kind, ..question("a") }, Some(rule), Instant::now())
            };
            let denied = ask(&denies, PermissionKind::Tool);
            assert!(matches!(denied.answered, Some(PermissionDecision::Deny { .. })), "{policy_rule:?}");
            assert_eq!(denied.rule.is_some(), policy_rule != PermissionRule::Deny, "{policy_rule:?}");
            let allowed = ask(&allows, PermissionKind::Tool);
            assert_eq!(allowed.rule.is_some(), policy_rule == PermissionRule::Ask, "{policy_rule:?}");
            assert_eq!(ask(&denies, PermissionKind::Question).rule, None, "a question is no tool");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn allow_reads_allows_what_says_that_it_only_reads_and_refuses_the_rest_with_the_reason() {
        let mut interview = Interview::new(policy(PermissionRule::AllowReads, PermissionDefault::Allow));
        let mut answer = |kind, access| {
            let request = PermissionRequest { kind, access, ..question("a") };
            interview.ask(request, None, Instant::now()).answered.expect("a policy always answers")
        };
        assert_eq!(answer(PermissionKind::Tool, Access::Read), PermissionDecision::AllowOnce);
        for (kind, access) in [
            (PermissionKind::Tool, Access::Write),
            (PermissionKind::Tool, Access::Unknown),
            (PermissionKind::Plan, Access::Read),
            (PermissionKind::Question, Access::Read),
        ] {
            let decision = answer(kind, access);
            let PermissionDecision::Deny { message: Some(why) } = decision else { panic!("{decision:?}") };
            assert!(why.contains("allow_reads") || why.contains("nobody"), "{why}");
        }
    }
}
