//! `/api/sessions`.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

/// `POST /api/sessions`: on a known project, or on a path or URL (the project is made when it is new).
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewSession {
    /// Known project.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project_id: Option<Uuid>,
    /// Path on the node that answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Clone URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Name of the workspace of a path or URL; the token's own by default, `default` for an admin's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace: Option<String>,
    /// Title.
    #[serde(default)]
    pub title: String,
    /// `allow`, `allow_reads`, `deny` or `ask`, whatever the agent's own policy is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permission: Option<String>,
    /// Agents whose first turn in it is expected: its worktree is made at once, and what they can do before a prompt is begun.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prepare: Vec<String>,
}

/// A session. `conversations` is filled by `GET /api/sessions/{id}` only.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct SessionView {
    /// Id.
    pub id: Uuid,
    /// Project.
    pub project_id: Uuid,
    /// Its name.
    pub project: String,
    /// Title.
    pub title: String,
    /// `open` or `closed`.
    pub status: String,
    /// What holds in it when an agent asks; null leaves it to the agent's own policy.
    #[serde(default)]
    pub permission: Option<String>,
    /// Tasks that have not ended.
    pub open_tasks: i64,
    /// Where its worktree is.
    pub worktree: Option<String>,
    /// `<agent> <state>` of each conversation.
    pub agents: Vec<String>,
    /// Since when.
    pub created_at: DateTime<Utc>,
    /// When closed.
    pub closed_at: Option<DateTime<Utc>>,
    /// Conversations, in detail.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conversations: Vec<ConversationView>,
}

/// A conversation of a session.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ConversationView {
    /// Agent.
    pub agent: String,
    /// Backend.
    pub backend: String,
    /// The agent's own id.
    pub agent_session_id: Option<String>,
    /// Port of a shared server.
    pub server_port: Option<i32>,
    /// `idle`, `active`, `crashed`, `closed`.
    pub status: String,
    /// Why it is not resumed.
    pub poisoned_reason: Option<String>,
    /// Turns that reported usage.
    pub turns: i64,
    /// Tokens in.
    pub input_tokens: i64,
    /// Tokens out.
    pub output_tokens: i64,
    /// US dollars.
    pub cost_usd: f64,
    /// Last turn.
    pub last_active_at: Option<DateTime<Utc>>,
}

/// `POST /api/sessions/{id}/close`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CloseSession {
    /// Remove the worktree although it holds work that is nowhere else (a last checkpoint is kept).
    #[serde(default)]
    pub force: bool,
    /// Close the session although its worktree holds such work, and leave the worktree where it is.
    #[serde(default)]
    pub keep: bool,
}

/// What closing came to. The session is closed in any case; its worktree is only removed when nothing would be lost.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ClosedView {
    /// The worktree is gone.
    pub worktree_removed: bool,
    /// Why it was kept, when it was.
    pub kept_because: Vec<String>,
    /// Where it is, when it was kept.
    pub worktree: Option<String>,
}
