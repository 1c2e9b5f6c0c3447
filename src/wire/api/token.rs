//! `/api/tokens`.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

/// `POST /api/tokens`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewToken {
    /// For people.
    #[schema(min_length = 1, max_length = 100)]
    pub name: String,
    /// `admin`, `client` or `runner`.
    #[schema(pattern = "^(admin|client|runner)$")]
    pub scope: String,
    /// Name of the workspace of a client or runner; `default` when it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace: Option<String>,
}

/// A token without what lets somebody in.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct TokenView {
    /// Id.
    pub id: Uuid,
    /// For people.
    pub name: String,
    /// `admin`, `client` or `runner`.
    pub scope: String,
    /// Name of its workspace; null: all.
    pub workspace: Option<String>,
    /// Since when.
    pub created_at: DateTime<Utc>,
    /// To the minute.
    pub last_used_at: Option<DateTime<Utc>>,
    /// Since when it lets nobody in.
    pub revoked_at: Option<DateTime<Utc>>,
}

/// A new token, with its text.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct NewTokenView {
    /// What it is.
    pub token: TokenView,
    /// `Authorization: Bearer <secret>`. It is told this once.
    pub secret: String,
}
