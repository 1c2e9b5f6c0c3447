//! Every error answer.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Every error answer (RFC 9457, `application/problem+json`): a stable `code`, and a `detail` that says what to do.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// `urn:agentpool:problem:` and the code.
    #[serde(rename = "type", default)]
    #[schema(format = "uri")]
    pub kind: String,
    /// The HTTP status in words.
    #[serde(default)]
    pub title: String,
    /// HTTP status.
    pub status: u16,
    /// Stable word (`not_found`, `invalid`, `conflict`, `unauthorized`, `unavailable`, `internal`, …).
    pub code: String,
    /// In words, for people.
    pub detail: String,
    /// What would be lost, where a worktree would go with work that is nowhere else.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub risk: Vec<String>,
    /// The files that it is about: those in conflict, or those that have not changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<String>,
    /// Names the request in the service's log; also in the header `X-Request-Id`.
    #[serde(default)]
    pub request_id: String,
}
