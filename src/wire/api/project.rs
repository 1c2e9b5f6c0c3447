//! `/api/projects`.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

/// `POST /api/projects`: a local path or a clone URL.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewProject {
    /// Absolute path of a repository on the node that answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Clone URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Name; by default the last part of path or URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Name of its workspace; the token's own by default, `default` for an admin's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace: Option<String>,
}

/// A project.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ProjectView {
    /// Id.
    pub id: Uuid,
    /// Name.
    pub name: String,
    /// Local path.
    pub path: Option<String>,
    /// Clone URL.
    pub url: Option<String>,
}

/// A workspace: the tenant of sessions and tokens.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct WorkspaceView {
    /// Id.
    pub id: Uuid,
    /// Name.
    pub name: String,
    /// Since when.
    pub created_at: DateTime<Utc>,
}

/// `POST /api/workspaces`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewWorkspace {
    /// Name.
    #[schema(pattern = "^[a-z0-9][a-z0-9._-]{0,63}$")]
    pub name: String,
}
