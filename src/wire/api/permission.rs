//! `/api/permissions`.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

/// A permission request.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct PermissionView {
    /// Id.
    pub id: Uuid,
    /// Session.
    pub session_id: Uuid,
    /// Task.
    pub task_id: Uuid,
    /// Agent.
    pub agent: String,
    /// `tool`, `question`, `plan`, `elicitation`.
    pub kind: String,
    /// A line for people.
    pub title: String,
    /// What the agent sent.
    pub payload: Value,
    /// `pending`, `answered`, `expired`, `cancelled`.
    pub status: String,
    /// The answer, as in `POST /api/permissions/{id}/answer` ([`crate::wire::permission::AnswerBody`]).
    pub answer: Option<Value>,
    /// `policy`, `rule <id>`, `deadline`, or who; of a cancelled one `turn_ended` or `node_lost`.
    pub answered_by: Option<String>,
    /// The request of an interrupted try, closed with it, that is made again by this one.
    #[serde(default)]
    pub repeats: Option<Uuid>,
    /// Until when.
    pub deadline: Option<DateTime<Utc>>,
    /// Since when.
    pub created_at: DateTime<Utc>,
}
