//! Answers to permission requests as JSON, in rows and over HTTP alike.

use crate::domain::permission::PermissionDecision;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// `{"decision": "allow_once" | "allow_always" | "deny" | "answers", "message": …, "answers": [[…]]}`.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, ToSchema)]
#[serde(tag = "decision", rename_all = "snake_case", deny_unknown_fields)]
pub enum AnswerBody {
    /// Yes, this once.
    AllowOnce,
    /// Yes, and do not ask for the like again in this conversation.
    AllowAlways,
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
            AnswerBody::AllowAlways => Self::AllowAlways,
            AnswerBody::Deny { message } => Self::Deny { message },
            AnswerBody::Answers { answers } => Self::Answers(answers),
        }
    }
}

impl From<PermissionDecision> for AnswerBody {
    fn from(decision: PermissionDecision) -> Self {
        match decision {
            PermissionDecision::AllowOnce => Self::AllowOnce,
            PermissionDecision::AllowAlways => Self::AllowAlways,
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
