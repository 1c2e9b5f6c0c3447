//! `/api/sessions/{id}/changes`.

use super::Api;
use super::node::LocalError;
use super::problem::{Id, Params, Refusal};
use super::sessions::find;
use crate::domain::ids::SessionId;
use crate::store::changes::StoredChange;
use crate::wire::api::{AppliedView, ApplyChanges, ChangeView};
use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use serde::Deserialize;
use uuid::Uuid;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListParams {
    status: Option<String>,
}

pub(super) async fn list(
    State(api): State<Api>,
    Id(id): Id<Uuid>,
    Params(params): Params<ListParams>,
) -> Result<Json<Vec<ChangeView>>, Refusal> {
    find(&api, id).await?;
    let rows = api.store.changes(id, params.status.as_deref()).await?;
    Ok(Json(rows.into_iter().map(view).collect()))
}

pub(super) async fn apply(
    State(api): State<Api>,
    Id(id): Id<Uuid>,
    body: Result<Option<Json<ApplyChanges>>, JsonRejection>,
) -> Result<Json<AppliedView>, Refusal> {
    let Json(body) = body?.unwrap_or_default();
    // Read before the checkpoint is: a turn that ends in between leaves its changes pending, never applied unseen.
    let newest = api.store.newest_pending(id).await?;
    let session = find(&api, id).await?;
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
