//! Events as plain pages: the same rows as the streams, for whoever polls or looks back.

use super::Api;
use super::feed::view;
use super::page::Page;
use super::problem::{Id, Params, Refusal, limit};
use super::{sessions, tasks};
use crate::domain::access::Caller;
use crate::domain::tool_output::unpack;
use crate::store::events::{EventRow, OutputRow};
use crate::wire::api::Problem;
use crate::wire::event::EventView;
use axum::extract::{OriginalUri, State};
use axum::http::{Uri, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use tokio::sync::Semaphore;
use uuid::Uuid;

/// Outputs that are unpacked at once: each may be of 64 MiB.
static UNPACKING: Semaphore = Semaphore::const_new(4);

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListParams {
    /// After that position of the session's stream, alone or as in an event's id; from the beginning by default.
    since: Option<String>,
    /// The last so many of the session's stream instead.
    #[param(minimum = 1, maximum = 500)]
    tail: Option<i64>,
    /// 1 to 500; 100 by default.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<i64>,
}

/// A page of a session's events, oldest first.
#[utoipa::path(get, path = "/sessions/{id}/messages", tag = "sessions", params(("id" = Uuid, Path), ListParams),
    responses((status = 200, description = "A page; `Link` names the next", body = Vec<EventView>)))]
pub(super) async fn of_session(
    State(api): State<Api>,
    caller: Caller,
    Id(id): Id<Uuid>,
    OriginalUri(uri): OriginalUri,
    Params(params): Params<ListParams>,
) -> Result<Page<EventView>, Refusal> {
    sessions::find(&api, &caller, id).await?;
    let (after, limit) = params.range(&api, id).await?;
    Ok(page(api.store.session_events(id, after, limit).await?, limit, &uri))
}

/// A page of a task's events, oldest first.
#[utoipa::path(get, path = "/tasks/{id}/messages", tag = "tasks", params(("id" = Uuid, Path), ListParams),
    responses((status = 200, description = "A page; `Link` names the next", body = Vec<EventView>)))]
pub(super) async fn of_task(
    State(api): State<Api>,
    caller: Caller,
    Id(id): Id<Uuid>,
    OriginalUri(uri): OriginalUri,
    Params(params): Params<ListParams>,
) -> Result<Page<EventView>, Refusal> {
    let session = tasks::find(&api, &caller, id).await?.session;
    let (after, limit) = params.range(&api, session).await?;
    Ok(page(api.store.task_events(id, session, after, limit).await?, limit, &uri))
}

/// A tool's output, whole, where its event shows only a preview of it.
#[utoipa::path(get, path = "/tasks/{id}/messages/{seq}/output", tag = "tasks",
    params(("id" = Uuid, Path), ("seq" = i64, Path, description = "The event's `seq`")),
    responses(
        (status = 200, description = "The output, without secrets; beyond 64 MiB it is cut, and says so", body = String,
            content_type = "text/plain; charset=utf-8"),
        (status = 404, description = "The event has no output, or its whole is kept with the call's last event", body = Problem,
            content_type = "application/problem+json"),
    ))]
pub(super) async fn output(
    State(api): State<Api>,
    caller: Caller,
    Id((id, seq)): Id<(Uuid, i64)>,
) -> Result<Response, Refusal> {
    tasks::find(&api, &caller, id).await?;
    // Nobody closes it.
    let _turn = UNPACKING.acquire().await;
    let row = api.store.tool_output(id, seq).await?;
    let row = row.ok_or_else(|| Refusal::not_found("no such event"))?;
    let text = match row {
        OutputRow { whole: Some(packed), .. } => {
            let unpacked = tokio::task::spawn_blocking(move || unpack(&packed)).await;
            let unpacked = unpacked.map_err(|error| Refusal::internal(error.to_string()))?;
            unpacked.map_err(|error| Refusal::internal(format!("a kept output cannot be read: {error}")))?
        }
        OutputRow { bytes: None, output: Some(output), .. } => output,
        OutputRow { bytes: None, output: None, .. } => {
            return Err(Refusal::not_found("the event has no output"));
        }
        OutputRow { bytes: Some(_), .. } => {
            return Err(Refusal::not_found(
                "the whole output is kept with the first event that ends the call",
            ));
        }
    };
    // What an agent printed: no browser is to take it for a page.
    let headers =
        [(header::CONTENT_TYPE, "text/plain; charset=utf-8"), (header::X_CONTENT_TYPE_OPTIONS, "nosniff")];
    Ok((headers, text).into_response())
}

fn page(rows: Vec<EventRow>, limit: i64, uri: &Uri) -> Page<EventView> {
    Page::of(rows.into_iter().map(view).collect(), limit, uri, "since", |event| event.pos.to_string())
}

impl ListParams {
    /// After which position, and how many.
    async fn range(&self, api: &Api, session: Uuid) -> Result<(i64, i64), Refusal> {
        match (&self.since, self.tail) {
            (since, Some(tail)) => {
                if since.is_some() || self.limit.is_some() {
                    return Err(Refusal::invalid("tail says where and how many: leave out since and limit"));
                }
                let tail = limit(Some(tail), tail)?;
                Ok(((api.store.stream_end(session).await? - tail).max(0), tail))
            }
            (since, None) => {
                let after = since.as_deref().map_or(Ok(0), |since| position(since, &api.epoch))?;
                Ok((after, limit(self.limit, 100)?))
            }
        }
    }
}

/// A number, or an event's id of this database.
fn position(text: &str, epoch: &str) -> Result<i64, Refusal> {
    let pos = match text.split_once(':') {
        None => text,
        Some((of, pos)) if of == epoch => pos,
        Some(_) => {
            return Err(Refusal::invalid("since is an id of another database: begin again without it"));
        }
    };
    let pos = pos.parse().ok().filter(|pos| *pos >= 0);
    pos.ok_or_else(|| Refusal::invalid("since must be a position, or the id of an event"))
}
