//! `/api/sessions/{id}/changes`.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

/// A change.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ChangeView {
    /// Id.
    pub id: Uuid,
    /// Task; none when a person did it.
    pub task_id: Option<Uuid>,
    /// Agent name or `user`.
    pub agent: String,
    /// Path.
    pub path: String,
    /// Path before a rename.
    pub old_path: Option<String>,
    /// `create`, `modify`, `delete`, `rename`.
    pub operation: String,
    /// Git calls it binary.
    pub binary: bool,
    /// Unified diff.
    pub diff: Option<String>,
    /// Lines added.
    pub additions: i64,
    /// Lines removed.
    pub deletions: i64,
    /// `pending`, `applied`, `rejected`, `superseded`.
    pub status: String,
    /// When found.
    pub created_at: DateTime<Utc>,
}

/// `POST /api/sessions/{id}/changes/apply`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ApplyChanges {
    /// Branch to make; by default `agentpool/<last 12 digits of the session id>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// Commit message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// What an apply came to.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct AppliedView {
    /// New branch in the user's repository.
    pub branch: String,
    /// Its commit.
    pub commit: String,
    /// What it stands on.
    pub onto: String,
    /// Changes marked as applied.
    pub changes: u64,
}
