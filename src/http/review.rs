//! What a session has made of its project, file by file: which files, their patch, who wrote which lines.

use super::Api;
use super::local_review::{Since, States, is_home};
use super::node::LocalError;
use super::page::Page;
use super::problem::{Id, Params, Refusal, limit};
use super::sessions::find;
use super::tasks;
use crate::domain::access::Caller;
use crate::domain::change::{Chosen, FileChange};
use crate::domain::story::{Edit, Lines, lines, stories};
use crate::store::changes::{StoredDiff, StoredStep};
use crate::wire::api::{ContributionView, FileView, LineView, Problem};
use axum::Json;
use axum::body::Body;
use axum::extract::{OriginalUri, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use tokio_util::io::ReaderStream;
use uuid::Uuid;

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct FilesParams {
    /// `base` (where the session began, the default) or `applied` (what is left to be applied or rejected).
    #[serde(default)]
    #[param(inline)]
    since: Since,
    /// How many to pass over: what `Link` names.
    #[param(minimum = 0)]
    offset: Option<i64>,
    /// 1 to 500; 100 by default.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<i64>,
}

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct DiffParams {
    /// `base` (where the session began, the default) or `applied` (what is left to be applied or rejected).
    #[serde(default)]
    #[param(inline)]
    since: Since,
    /// Only of that file.
    path: Option<String>,
}

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct TaskDiffParams {
    /// Only of that file.
    path: Option<String>,
}

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct LinesParams {
    /// Of that file, by its newest name.
    path: String,
}

/// The files that a session changed, with the agents that did.
#[utoipa::path(get, path = "/sessions/{id}/files", tag = "changes", params(("id" = Uuid, Path), FilesParams), responses((status = 200, description = "A page", body = Vec<FileView>), (status = 409, description = "The worktree is on another node", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn files(
    State(api): State<Api>,
    caller: Caller,
    Id(id): Id<Uuid>,
    OriginalUri(uri): OriginalUri,
    Params(params): Params<FilesParams>,
) -> Result<Page<FileView>, Refusal> {
    let limit = limit(params.limit, 100)?;
    let Ok(offset) = usize::try_from(params.offset.unwrap_or(0)) else {
        return Err(Refusal::invalid("offset must be 0 or more"));
    };
    let session = find(&api, &caller, id).await?;
    is_home(&session, api.node.id().0)?;
    let changed = api.review.files(&session, params.since).await?;
    let rows = api.store.change_steps(id).await?;
    let steps: Vec<_> = rows.iter().map(StoredStep::step).collect();
    let stories = stories(&steps);
    let page = changed.iter().skip(offset).take(usize::try_from(limit).unwrap_or(usize::MAX));
    let views: Vec<FileView> = page
        .map(|file| {
            let story = stories.get(file.path.as_str()).map(Vec::as_slice).unwrap_or_default();
            file_view(file, story.iter().filter_map(|at| rows.get(*at)))
        })
        .collect();
    let next = offset.saturating_add(views.len());
    Ok(Page::of(views, limit, &uri, "offset", |_| next.to_string()))
}

/// What a session changed, as one patch that `git apply` takes.
#[utoipa::path(get, path = "/sessions/{id}/diff", tag = "changes", params(("id" = Uuid, Path), DiffParams), responses((status = 200, description = "The patch; nothing where nothing differs", body = String, content_type = "text/x-diff"), (status = 409, description = "The worktree is on another node", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn patch_of_session(
    State(api): State<Api>,
    caller: Caller,
    Id(id): Id<Uuid>,
    Params(params): Params<DiffParams>,
) -> Result<Response, Refusal> {
    let session = find(&api, &caller, id).await?;
    is_home(&session, api.node.id().0)?;
    let patch = api.review.patch(&session, States::Session(params.since), chosen(params.path)).await;
    patch.map(answer).map_err(not_there)
}

/// What a task changed, as one patch that `git apply` takes.
#[utoipa::path(get, path = "/tasks/{id}/diff", tag = "changes", params(("id" = Uuid, Path), TaskDiffParams), responses((status = 200, description = "The patch; nothing where nothing differs", body = String, content_type = "text/x-diff"), (status = 409, description = "It has not ended, or its worktree is on another node", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn patch_of_task(
    State(api): State<Api>,
    caller: Caller,
    Id(id): Id<Uuid>,
    Params(params): Params<TaskDiffParams>,
) -> Result<Response, Refusal> {
    let task = tasks::find(&api, &caller, id).await?;
    let session = find(&api, &caller, task.session).await?;
    let Some((before, after, node)) = api.store.states_of_task(id).await? else {
        return Err(Refusal::conflict("the task has not ended with a state that was saved"));
    };
    if node != api.node.id().0 {
        return Err(Refusal::conflict(format!("the task's worktree is on another node ({node}): ask there")));
    }
    let patch = api.review.patch(&session, States::Task(before, after), chosen(params.path)).await;
    patch.map(answer).map_err(not_there)
}

/// Who wrote which lines of a file: those that agents or people changed since the session began.
#[utoipa::path(get, path = "/sessions/{id}/lines", tag = "changes", params(("id" = Uuid, Path), LinesParams), responses((status = 200, description = "Ranges, from the top; what is in none was there before", body = Vec<LineView>)))]
pub(super) async fn authors(
    State(api): State<Api>,
    caller: Caller,
    Id(id): Id<Uuid>,
    Params(params): Params<LinesParams>,
) -> Result<Json<Vec<LineView>>, Refusal> {
    find(&api, &caller, id).await?;
    let rows = api.store.change_steps(id).await?;
    let steps: Vec<_> = rows.iter().map(StoredStep::step).collect();
    let stories = stories(&steps);
    let Some(story) = stories.get(params.path.as_str()) else {
        return Err(Refusal::not_found("no turn of this session has changed a file of that name"));
    };
    let ids: Vec<Uuid> = story.iter().filter_map(|at| rows.get(*at)).map(|row| row.id).collect();
    let diffs = api.store.change_diffs(&ids).await?;
    let told = tokio::task::spawn_blocking(move || {
        let edits: Vec<Edit<'_, (&str, Option<Uuid>)>> = diffs.iter().map(edit).collect();
        lines(&edits).into_iter().map(line_view).collect()
    });
    let told =
        told.await.map_err(|_| Refusal::internal("the request failed; the service's log has the details"))?;
    Ok(Json(told))
}

fn chosen(path: Option<String>) -> Chosen {
    path.map_or(Chosen::All, |path| Chosen::Files(vec![path]))
}

fn not_there(error: LocalError) -> Refusal {
    match error {
        LocalError::Files { .. } => Refusal::not_found("no file of that name differs"),
        error => error.into(),
    }
}

fn answer(patch: std::fs::File) -> Response {
    let body = Body::from_stream(ReaderStream::new(tokio::fs::File::from_std(patch)));
    // What is in it is for a program or a viewer of patches: no browser is to take it for a page.
    let headers = [(header::CONTENT_TYPE, "text/x-diff"), (header::X_CONTENT_TYPE_OPTIONS, "nosniff")];
    (headers, body).into_response()
}

fn edit(row: &StoredDiff) -> Edit<'_, (&str, Option<Uuid>)> {
    let kind = |mode: &Option<String>| mode.as_ref().map(|mode| mode.get(..3).unwrap_or_default().to_owned());
    let (old, new) = (kind(&row.old_mode), kind(&row.new_mode));
    Edit {
        by: (&row.agent, row.task),
        old_blob: row.old_blob.as_deref(),
        new_blob: row.new_blob.as_deref(),
        other_kind: old.is_some() && new.is_some() && old != new,
        diff: row.diff.as_deref(),
    }
}

fn line_view(lines: Lines<(&str, Option<Uuid>)>) -> LineView {
    let (agent, task_id) = lines.by;
    LineView { first: lines.first, last: lines.last, agent: agent.to_owned(), task_id }
}

fn file_view<'a>(file: &FileChange, story: impl Iterator<Item = &'a StoredStep>) -> FileView {
    let mut by: Vec<ContributionView> = Vec::new();
    for step in story {
        let at = by.iter().position(|known| known.agent == step.agent).unwrap_or_else(|| {
            by.push(ContributionView { agent: step.agent.clone(), ..ContributionView::default() });
            by.len() - 1
        });
        by[at].task_ids.extend(step.task);
        by[at].additions += step.additions;
        by[at].deletions += step.deletions;
    }
    FileView {
        path: file.path.clone(),
        old_path: file.old_path.clone(),
        operation: file.operation.as_str().to_owned(),
        old_mode: file.old_mode.clone(),
        new_mode: file.new_mode.clone(),
        binary: file.binary,
        additions: file.additions,
        deletions: file.deletions,
        by,
    }
}
