//! `/api/permission-rules`.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

/// `POST /api/permission-rules`: for a session, an agent, or an agent in a session.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewPermissionRule {
    /// In that session only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<Uuid>,
    /// Of that agent only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// Name of the workspace of a rule without a session; the token's own by default, `default` for an admin's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace: Option<String>,
    /// The tool's name or the word of its kind, as `bash`, `edit`, `webfetch`. `bash`, `shell` and `execute` are one.
    pub tool: String,
    /// Of a shell: the words that the command begins with. Of tools for files: paths within the worktree, with `*`, `?` and `**`.
    /// Without one: all that the tool does, but never all that a shell does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
    /// The pattern is the whole command, or the path itself.
    #[serde(default)]
    pub exact: bool,
    /// `allow` or `deny`.
    pub decision: String,
}

/// A standing rule.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct PermissionRuleView {
    /// Id.
    pub id: Uuid,
    /// In that session only.
    pub session_id: Option<Uuid>,
    /// Of that agent only.
    pub agent: Option<String>,
    /// Tool.
    pub tool: String,
    /// Words or paths.
    pub pattern: Option<String>,
    /// The pattern is the whole command, or the path itself.
    pub exact: bool,
    /// `allow` or `deny`.
    pub decision: String,
    /// Since when.
    pub created_at: DateTime<Utc>,
    /// `owner`, or the token that made it.
    pub created_by: String,
}
