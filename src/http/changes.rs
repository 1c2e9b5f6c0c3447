//! `/api/sessions/{id}/changes`.

use super::Api;
use super::node::LocalError;
use super::problem::{Id, OptionalBody, Params, Refusal};
use super::sessions::find;
use crate::domain::access::Caller;
use crate::domain::ids::SessionId;
use crate::store::changes::StoredChange;
use crate::wire::api::{AppliedView, ApplyChanges, ChangeView, Problem};
use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use uuid::Uuid;

/// As the CHECK of `pending_changes.status` has them.
const STATUSES: [&str; 4] = ["pending", "applied", "rejected", "superseded"];
/// Longest commit message: it reaches git as one argument, which Linux limits to 128 KiB.
const MESSAGE_BYTES_MAX: usize = 64 << 10;

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListParams {
    status: Option<String>,
}

/// What the turns of a session changed, oldest first.
#[utoipa::path(get, path = "/sessions/{id}/changes", tag = "changes", params(("id" = Uuid, Path), ListParams), responses((status = 200, description = "All", body = Vec<ChangeView>)))]
pub(super) async fn list(
    State(api): State<Api>,
    caller: Caller,
    Id(id): Id<Uuid>,
    Params(params): Params<ListParams>,
) -> Result<Json<Vec<ChangeView>>, Refusal> {
    if let Some(status) = &params.status
        && !STATUSES.contains(&status.as_str())
    {
        return Err(Refusal::invalid(format!("status must be one of {}", STATUSES.join(", "))));
    }
    find(&api, &caller, id).await?;
    let rows = api.store.changes(id, params.status.as_deref()).await?;
    Ok(Json(rows.into_iter().map(view).collect()))
}

/// Brings the session's work into the user's repository, as a new branch.
#[utoipa::path(post, path = "/sessions/{id}/changes/apply", tag = "changes", params(("id" = Uuid, Path)), request_body = Option<ApplyChanges>, responses((status = 200, description = "The branch", body = AppliedView), (status = 409, description = "It does not go onto the project; nothing was touched", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn apply(
    State(api): State<Api>,
    caller: Caller,
    Id(id): Id<Uuid>,
    OptionalBody(body): OptionalBody<ApplyChanges>,
) -> Result<Json<AppliedView>, Refusal> {
    if body.message.as_ref().is_some_and(|words| words.len() > MESSAGE_BYTES_MAX || words.contains('\0')) {
        return Err(Refusal::invalid("the message must be at most 64 KiB without NUL characters"));
    }
    // Read before the checkpoint is: a turn that ends in between leaves its changes pending, never applied unseen.
    let newest = api.store.newest_pending(id).await?;
    let session = find(&api, &caller, id).await?;
    if session.home != Some(api.node.id().0) {
        return Err(Refusal::conflict(match session.home {
            None => "nothing has run in this session yet: there is nothing to apply",
            Some(_) => "the session's worktree is on another node: apply there",
        }));
    }
    let branch = body.branch.unwrap_or_else(|| format!("agentpool/{}", short(id)));
    let message = body.message.unwrap_or_else(|| match session.row.title.as_str() {
        "" => format!("Changes of agentpool session {id}"),
        title => title.to_owned(),
    });
    let applied = api.node.apply(SessionId(id), &session, &branch, &message).await;
    let (branch, commit, onto) = applied.map_err(|error| match error {
        LocalError::Conflict(words) => Refusal::conflict(words),
        LocalError::Failed(words) => Refusal::internal(words),
    })?;
    let changes = match newest {
        Some(newest) => api.store.mark_applied(id, newest).await?,
        None => 0,
    };
    Ok(Json(AppliedView { branch, commit, onto, changes }))
}

/// The random end of a v7 id: its beginning is the time, which sessions made together share.
fn short(id: Uuid) -> String {
    let text = id.simple().to_string();
    text[text.len() - 12..].to_owned()
}

fn view(row: StoredChange) -> ChangeView {
    ChangeView {
        id: row.id,
        task_id: row.task,
        agent: row.agent,
        path: row.path,
        old_path: row.old_path,
        operation: row.operation,
        binary: row.binary,
        diff: row.diff,
        additions: row.additions,
        deletions: row.deletions,
        status: row.status,
        created_at: row.created_at,
    }
}
