//! `/api/sessions/{id}/checkpoints`: saved states of a session's worktree, and the way back to one.

use super::Api;
use super::local_review::is_home;
use super::page::Page;
use super::problem::{Id, Params, Refusal, limit};
use super::sessions::find;
use super::steps::to_its_end;
use crate::domain::access::Caller;
use crate::store::checkpoints::CheckpointRow;
use crate::wire::api::{CheckpointView, Problem};
use axum::Json;
use axum::extract::{OriginalUri, State};
use serde::Deserialize;
use std::sync::Arc;
use uuid::Uuid;

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListParams {
    /// Older than that checkpoint: what `Link` names.
    before: Option<i64>,
    /// 1 to 500; 50 by default.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<i64>,
}

/// Checkpoints of a session, newest first.
#[utoipa::path(get, path = "/sessions/{id}/checkpoints", tag = "checkpoints", params(("id" = Uuid, Path), ListParams), responses((status = 200, description = "A page", body = Vec<CheckpointView>)))]
pub(super) async fn list(
    State(api): State<Api>,
    caller: Caller,
    Id(id): Id<Uuid>,
    OriginalUri(uri): OriginalUri,
    Params(params): Params<ListParams>,
) -> Result<Page<CheckpointView>, Refusal> {
    let limit = limit(params.limit, 50)?;
    find(&api, &caller, id).await?;
    let rows = api.store.checkpoints(id, params.before, limit).await?;
    let rows = rows.into_iter().map(view).collect();
    Ok(Page::of(rows, limit, &uri, "before", |checkpoint: &CheckpointView| checkpoint.id.to_string()))
}

/// Takes the worktree back to a checkpoint of the session. What is there now stays as a checkpoint of its own; ignored files stay.
#[utoipa::path(post, path = "/sessions/{id}/checkpoints/{checkpoint}/restore", tag = "checkpoints", params(("id" = Uuid, Path), ("checkpoint" = i64, Path)), responses((status = 200, description = "The restored one", body = CheckpointView), (status = 409, description = "A turn is at work in the worktree, or the checkpoint was dropped; nothing was touched", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn restore(
    State(api): State<Api>,
    caller: Caller,
    Id((id, checkpoint)): Id<(Uuid, i64)>,
) -> Result<Json<CheckpointView>, Refusal> {
    let session = find(&api, &caller, id).await?;
    let Some(to) = api.store.checkpoint(id, checkpoint).await? else {
        return Err(Refusal::not_found("the session has no such checkpoint"));
    };
    is_home(&session, api.node.id().0)?;
    if to.node != api.node.id().0 {
        return Err(Refusal::conflict("the checkpoint is of another node, and its files are not here"));
    }
    let (review, row) = (Arc::clone(&api.review), to.clone());
    to_its_end(&api, async move { review.restore(&session, &row).await }).await?;
    Ok(Json(view(CheckpointRow { present: true, ..to })))
}

fn view(row: CheckpointRow) -> CheckpointView {
    CheckpointView {
        id: row.id,
        task_id: row.task,
        agent: row.agent,
        kind: row.kind,
        commit: row.commit,
        restores: row.restores,
        present: row.present,
        created_at: row.created_at,
    }
}
