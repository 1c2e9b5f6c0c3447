//! Answers to permission requests as JSON, in rows and over HTTP alike.

use crate::domain::permission::PermissionDecision;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// For what a standing rule is made of an answer.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RuleReach {
    /// The session, whichever of its agents asks.
    Session,
    /// The agent, in every session of the workspace.
    Agent,
}

/// `{"decision": "allow_once" | "allow_always" | "deny" | "answers", "rule": …, "message": …, "answers": [[…]]}`.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, ToSchema)]
#[serde(tag = "decision", rename_all = "snake_case", deny_unknown_fields)]
pub enum AnswerBody {
    /// Yes, this once.
    AllowOnce,
    /// Yes, and do not ask for the like again: what is alike is up to the agent, within its conversation.
    AllowAlways {
        /// Instead, a standing rule for exactly this command or file: the agent hears yes for this once, and the rule answers
        /// the next time. 422 where the request does not say enough for a rule to be sure.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rule: Option<RuleReach>,
    },
    /// No.
    Deny {
        /// Told to the agent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        message: Option<String>,
    },
    /// Answers to questions: one list of labels a question.
    Answers {
        /// In the order of the questions.
        answers: Vec<Vec<String>>,
    },
}

impl From<AnswerBody> for PermissionDecision {
    fn from(body: AnswerBody) -> Self {
        match body {
            AnswerBody::AllowOnce => Self::AllowOnce,
            AnswerBody::AllowAlways { rule: None } => Self::AllowAlways,
            // Agents take their own always for more than was asked, and ask no more where a rule may forbid.
            AnswerBody::AllowAlways { rule: Some(_) } => Self::AllowOnce,
            AnswerBody::Deny { message } => Self::Deny { message },
            AnswerBody::Answers { answers } => Self::Answers(answers),
        }
    }
}

impl From<PermissionDecision> for AnswerBody {
    fn from(decision: PermissionDecision) -> Self {
        match decision {
            PermissionDecision::AllowOnce => Self::AllowOnce,
            PermissionDecision::AllowAlways => Self::AllowAlways { rule: None },
            PermissionDecision::Deny { message } => Self::Deny { message },
            PermissionDecision::Answers(answers) => Self::Answers { answers },
        }
    }
}

/// A decision as it stands in a row.
pub fn to_json(decision: PermissionDecision) -> Value {
    serde_json::to_value(AnswerBody::from(decision)).expect("an enum of strings is always JSON")
}

/// A decision read from a row; what is not one (somebody wrote the column by hand) is a denial.
pub fn from_json(value: Value) -> PermissionDecision {
    serde_json::from_value::<AnswerBody>(value).map_or_else(
        |_| PermissionDecision::Deny { message: Some("the stored answer could not be read".to_owned()) },
        PermissionDecision::from,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_always_that_makes_a_rule_is_a_yes_for_once_to_the_agent() {
        assert_eq!(from_json(json!({"decision": "allow_always"})), PermissionDecision::AllowAlways);
        let ruled = json!({"decision": "allow_always", "rule": "agent"});
        assert_eq!(from_json(ruled), PermissionDecision::AllowOnce);
        assert_eq!(to_json(PermissionDecision::AllowAlways), json!({"decision": "allow_always"}));
        let unknown = json!({"decision": "allow_always", "rule": "world"});
        assert!(matches!(from_json(unknown), PermissionDecision::Deny { .. }));
    }
}
