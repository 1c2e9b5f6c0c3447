//! What turns changed, and what people make of it.

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
    /// Octal file mode before.
    #[serde(default)]
    pub old_mode: Option<String>,
    /// Octal file mode after.
    #[serde(default)]
    pub new_mode: Option<String>,
    /// Git calls it binary.
    pub binary: bool,
    /// Unified diff, up to 1 MiB; none for binary or longer ones.
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
    /// Only these files, by their paths as listed; all when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<String>,
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

/// `POST /api/sessions/{id}/changes/reject`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RejectChanges {
    /// These files, by their paths as listed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<String>,
    /// All files instead.
    #[serde(default)]
    pub all: bool,
}

/// What a rejection came to.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct RejectedView {
    /// The files that went back.
    pub files: Vec<String>,
    /// Changes marked as rejected.
    pub changes: u64,
}

/// A file that a session changed, whatever turns it took.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct FileView {
    /// Path, as it is shown: what is not UTF-8 in it is replaced.
    pub path: String,
    /// Path before a rename.
    pub old_path: Option<String>,
    /// `create`, `modify`, `delete`, `rename`.
    pub operation: String,
    /// Octal file mode before.
    pub old_mode: Option<String>,
    /// Octal file mode after.
    pub new_mode: Option<String>,
    /// Git calls it binary.
    pub binary: bool,
    /// Lines added.
    pub additions: i64,
    /// Lines removed.
    pub deletions: i64,
    /// Who changed it, in order of their first change.
    pub by: Vec<ContributionView>,
}

/// What one agent, or `user`, did to a file.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct ContributionView {
    /// Agent name or `user`.
    pub agent: String,
    /// In which tasks; none of a person.
    pub task_ids: Vec<Uuid>,
    /// Lines added, in all of its turns.
    pub additions: i64,
    /// Lines removed, in all of its turns.
    pub deletions: i64,
}

/// Neighbouring lines that one turn, or a person, wrote.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct LineView {
    /// The first, from 1.
    pub first: u64,
    /// The last; none for the end of a file that is told as a whole (a binary one, or one whose diff is longer than 1 MiB).
    pub last: Option<u64>,
    /// Agent name or `user`.
    pub agent: String,
    /// In which task; none of a person.
    pub task_id: Option<Uuid>,
}
