//! `/api/sessions/{id}/changes` and `/api/tasks/{id}/changes`: what turns changed, and what a person makes of it.

use super::Api;
use super::local_review::{NewBranch, is_home};
use super::page::Page;
use super::problem::{Body, Id, OptionalBody, Params, Refusal, limit};
use super::sessions::find;
use super::steps::to_its_end;
use super::tasks;
use crate::domain::access::Caller;
use crate::domain::change::{ChangeStatus, Chosen};
use crate::store::changes::{ChangeFilter, StoredChange};
use crate::wire::api::{AppliedView, ApplyChanges, ChangeView, Problem, RejectChanges, RejectedView};
use axum::Json;
use axum::extract::{OriginalUri, State};
use axum::http::Uri;
use serde::Deserialize;
use std::sync::Arc;
use uuid::Uuid;

/// Longest commit message: it reaches git as one argument, which Linux limits to 128 KiB.
const MESSAGE_BYTES_MAX: usize = 64 << 10;

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListParams {
    /// `pending`, `applied`, `rejected` or `superseded`.
    status: Option<String>,
    /// Later than that change: what `Link` names.
    after: Option<Uuid>,
    /// 1 to 500; 100 by default. Fewer come where diffs are long.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<i64>,
}

/// What the turns of a session changed, oldest first.
#[utoipa::path(get, path = "/sessions/{id}/changes", tag = "changes", params(("id" = Uuid, Path), ListParams), responses((status = 200, description = "A page", body = Vec<ChangeView>)))]
pub(super) async fn list(
    State(api): State<Api>,
    caller: Caller,
    Id(id): Id<Uuid>,
    OriginalUri(uri): OriginalUri,
    Params(params): Params<ListParams>,
) -> Result<Page<ChangeView>, Refusal> {
    find(&api, &caller, id).await?;
    page(&api, (id, None), params, &uri).await
}

/// What the turns of a task changed.
#[utoipa::path(get, path = "/tasks/{id}/changes", tag = "changes", params(("id" = Uuid, Path), ListParams), responses((status = 200, description = "A page", body = Vec<ChangeView>)))]
pub(super) async fn of_task(
    State(api): State<Api>,
    caller: Caller,
    Id(id): Id<Uuid>,
    OriginalUri(uri): OriginalUri,
    Params(params): Params<ListParams>,
) -> Result<Page<ChangeView>, Refusal> {
    let session = tasks::find(&api, &caller, id).await?.session;
    page(&api, (session, Some(id)), params, &uri).await
}

async fn page(
    api: &Api,
    (session, task): (Uuid, Option<Uuid>),
    params: ListParams,
    uri: &Uri,
) -> Result<Page<ChangeView>, Refusal> {
    if let Some(status) = &params.status
        && !ChangeStatus::ALL.iter().any(|known| known.as_str() == status)
    {
        let words = ChangeStatus::ALL.map(ChangeStatus::as_str).join(", ");
        return Err(Refusal::invalid(format!("status must be one of {words}")));
    }
    let limit = limit(params.limit, 100)?;
    let filter = ChangeFilter { session, task, status: params.status, after: params.after };
    let (rows, more) = api.store.changes(&filter, limit).await?;
    let rows = rows.into_iter().map(view).collect();
    Ok(Page::with_more(rows, more, uri, "after", |change: &ChangeView| change.id.to_string()))
}

/// Brings the session's work, or chosen files of it, into the user's repository, as a new branch.
#[utoipa::path(post, path = "/sessions/{id}/changes/apply", tag = "changes", params(("id" = Uuid, Path)), request_body = Option<ApplyChanges>, responses((status = 200, description = "The branch", body = AppliedView), (status = 409, description = "It does not go onto the project (`paths`); nothing was touched", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn apply(
    State(api): State<Api>,
    caller: Caller,
    Id(id): Id<Uuid>,
    OptionalBody(body): OptionalBody<ApplyChanges>,
) -> Result<Json<AppliedView>, Refusal> {
    if body.message.as_ref().is_some_and(|words| words.len() > MESSAGE_BYTES_MAX || words.contains('\0')) {
        return Err(Refusal::invalid("the message must be at most 64 KiB without NUL characters"));
    }
    let session = find(&api, &caller, id).await?;
    is_home(&session, api.node.id().0)?;
    let name = body.branch.unwrap_or_else(|| format!("agentpool/{}", short(id)));
    let message = body.message.unwrap_or_else(|| match session.row.title.as_str() {
        "" => format!("Changes of agentpool session {id}"),
        title => title.to_owned(),
    });
    let chosen = if body.files.is_empty() { Chosen::All } else { Chosen::Files(body.files) };
    let review = Arc::clone(&api.review);
    let branch = NewBranch { name, message, chosen };
    Ok(Json(to_its_end(&api, async move { review.apply(&session, branch).await }).await?))
}

/// Takes changed files back to what was last applied, or to where the session began. What was there stays as a checkpoint.
#[utoipa::path(post, path = "/sessions/{id}/changes/reject", tag = "changes", params(("id" = Uuid, Path)), request_body = RejectChanges, responses((status = 200, description = "What went back", body = RejectedView), (status = 409, description = "A turn is at work in the worktree, or a file has not changed (`paths`); nothing was touched", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn reject(
    State(api): State<Api>,
    caller: Caller,
    Id(id): Id<Uuid>,
    Body(body): Body<RejectChanges>,
) -> Result<Json<RejectedView>, Refusal> {
    let chosen = match (body.all, body.files.is_empty()) {
        (true, true) => Chosen::All,
        (false, false) => Chosen::Files(body.files),
        _ => return Err(Refusal::invalid("say which: name `files`, or set `all` to true")),
    };
    let session = find(&api, &caller, id).await?;
    is_home(&session, api.node.id().0)?;
    let review = Arc::clone(&api.review);
    let (files, changes) = to_its_end(&api, async move { review.reject(&session, chosen).await }).await?;
    Ok(Json(RejectedView { files, changes }))
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
        old_mode: row.old_mode,
        new_mode: row.new_mode,
        binary: row.binary,
        diff: row.diff,
        additions: row.additions,
        deletions: row.deletions,
        status: row.status,
        created_at: row.created_at,
    }
}
