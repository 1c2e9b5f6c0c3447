//! `/api/sessions/{id}/checkpoints`.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

/// A saved state of a session's worktree.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct CheckpointView {
    /// Id, growing with time.
    pub id: i64,
    /// The task whose turn took it.
    pub task_id: Option<Uuid>,
    /// The agent of that task.
    pub agent: Option<String>,
    /// `before` or `after` a turn, `interrupted`, `final`; `kept` before a person's step, `restored` or `rejected` after it.
    pub kind: String,
    /// Its commit, in agentpool's own store.
    pub commit: String,
    /// The checkpoint that it restored.
    pub restores: Option<i64>,
    /// True when the present state came from it.
    pub present: bool,
    /// When it was taken.
    pub created_at: DateTime<Utc>,
}
