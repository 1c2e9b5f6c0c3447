//! `/api/tasks`.

use super::Api;
use super::page::Page;
use super::problem::{Body, Id, Params, Refusal, limit};
use super::waiting;
use crate::domain::access::Caller;
use crate::domain::agent::AgentName;
use crate::domain::ids::WorkspaceId;
use crate::domain::measure;
use crate::domain::session::SessionStatus;
use crate::domain::task::{PROMPT_BYTES_MAX, TaskStatus};
use crate::store::enqueue::{Enqueued, IdempotencyKey, NewTask};
use crate::store::sessions::DEFAULT_WORKSPACE;
use crate::store::tasks::{TaskFilter, TaskRow};
use crate::wire::api::{self, BatchView, NewTasks, Problem, TaskView};
use ::metrics::counter;
use axum::Json;
use axum::extract::{OriginalUri, State};
use axum::http::{HeaderMap, StatusCode};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use uuid::Uuid;

/// Tasks of one batch: what one commit takes in well under a second.
const BATCH_MAX: usize = 1000;

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListParams {
    /// Of that session.
    session: Option<Uuid>,
    /// With that status.
    status: Option<String>,
    /// For that agent.
    agent: Option<String>,
    /// Older than that task: what `Link` names.
    before: Option<Uuid>,
    /// 1 to 500; 50 by default.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<i64>,
}

/// Tasks, newest first; prompt and output are cut to 200 characters.
#[utoipa::path(get, path = "/tasks", tag = "tasks", params(ListParams), responses((status = 200, description = "A page", body = Vec<TaskView>)))]
pub(super) async fn list(
    State(api): State<Api>,
    caller: Caller,
    OriginalUri(uri): OriginalUri,
    Params(params): Params<ListParams>,
) -> Result<Page<TaskView>, Refusal> {
    if let Some(status) = &params.status
        && TaskStatus::parse(status).is_none()
    {
        let known: Vec<&str> = TaskStatus::ALL.iter().map(|status| status.as_str()).collect();
        return Err(Refusal::invalid(format!("status must be one of {}", known.join(", "))));
    }
    let limit = limit(params.limit, 50)?;
    let agent = params.agent.map(|name| AgentName::new(name).map(|name| name.as_str().to_owned()));
    let filter = TaskFilter {
        session: params.session,
        status: params.status,
        agent: agent.transpose().map_err(|error| Refusal::invalid(error.to_string()))?,
        before: params.before,
        workspace: caller.workspace.map(|workspace| workspace.0),
    };
    let rows = api.store.tasks(&filter, limit).await?.into_iter().map(view).collect();
    Ok(Page::of(rows, limit, &uri, "before", |task| task.id.to_string()))
}

/// One task, with its attempts and, while it is queued, with what it waits for.
#[utoipa::path(get, path = "/tasks/{id}", tag = "tasks", params(("id" = Uuid, Path)), responses((status = 200, description = "The task", body = TaskView)))]
pub(super) async fn get(
    State(api): State<Api>,
    caller: Caller,
    Id(id): Id<Uuid>,
) -> Result<Json<TaskView>, Refusal> {
    let mut task = view(find(&api, &caller, id).await?);
    task.waits = waiting::wait(&api, &task).await?;
    task.attempts = waiting::attempts(api.store.attempt_events(id).await?);
    Ok(Json(task))
}

/// Puts a task in the queue.
#[utoipa::path(post, path = "/tasks", tag = "tasks", params(("Idempotency-Key" = Option<String>, Header, description = "1 to 255 characters; a repeated request with it is one task for 7 days")), request_body = api::NewTask, responses((status = 201, description = "A new task", body = TaskView), (status = 200, description = "The task of an earlier request with the same key", body = TaskView), (status = 409, description = "The session is closed", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn create(
    State(api): State<Api>,
    caller: Caller,
    headers: HeaderMap,
    Body(body): Body<api::NewTask>,
) -> Result<(StatusCode, Json<TaskView>), Refusal> {
    let key = idempotency_key(&caller, &headers, &body)?;
    let task = checked(body)?;
    // A repeat is answered whatever became of the session since.
    if let Some(key) = &key
        && let Some(before) = api.store.enqueued_before(key).await?
    {
        return answer(&api, &caller, before).await;
    }
    open_session(&api, &caller, task.session).await?;
    answer(&api, &caller, api.store.enqueue(&task, key.as_ref()).await?).await
}

async fn answer(
    api: &Api,
    caller: &Caller,
    enqueued: Enqueued,
) -> Result<(StatusCode, Json<TaskView>), Refusal> {
    let (status, id) = match enqueued {
        Enqueued::New(id) => {
            counter!(measure::TASKS_SUBMITTED).increment(1);
            (StatusCode::CREATED, id)
        }
        Enqueued::Before(id) => (StatusCode::OK, id),
        Enqueued::KeyConflict => {
            return Err(Refusal::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "idempotency_key_reused",
                "this Idempotency-Key was used for another request: choose a new one",
            ));
        }
    };
    Ok((status, Json(view(find(api, caller, id).await?))))
}

/// Asks to cancel; its turn is stopped, and what is queued ends at the next admission.
#[utoipa::path(post, path = "/tasks/{id}/cancel", tag = "tasks", params(("id" = Uuid, Path)), responses((status = 202, description = "Asked", body = TaskView), (status = 409, description = "The task has ended", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn cancel(
    State(api): State<Api>,
    caller: Caller,
    Id(id): Id<Uuid>,
) -> Result<(StatusCode, Json<TaskView>), Refusal> {
    find(&api, &caller, id).await?;
    let asked = api.store.ask_cancel(id).await?;
    let task = find(&api, &caller, id).await?;
    if !asked {
        return Err(Refusal::conflict(format!("the task has ended: it is {}", task.status)));
    }
    Ok((StatusCode::ACCEPTED, Json(view(task))))
}

/// Puts up to 1,000 tasks in the queue, all of them or none, in their order.
#[utoipa::path(post, path = "/tasks/batch", tag = "tasks", request_body = NewTasks, responses(
    (status = 201, description = "New tasks", body = BatchView),
    (status = 404, description = "A session or agent is unknown", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "A session is closed", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn create_all(
    State(api): State<Api>,
    caller: Caller,
    Body(body): Body<NewTasks>,
) -> Result<(StatusCode, Json<BatchView>), Refusal> {
    if !(1..=BATCH_MAX).contains(&body.tasks.len()) {
        return Err(Refusal::invalid(format!(
            "a batch has 1 to {BATCH_MAX} tasks, not {}",
            body.tasks.len()
        )));
    }
    let tasks = body
        .tasks
        .into_iter()
        .enumerate()
        .map(|(at, task)| checked(task).map_err(|refusal| refusal.about(&format!("tasks[{at}]"))));
    let tasks: Vec<NewTask> = tasks.collect::<Result<_, _>>()?;
    let sessions: BTreeSet<Uuid> = tasks.iter().map(|task| task.session).collect();
    for session in sessions {
        open_session(&api, &caller, session).await.map_err(|refusal| refusal.about(&session.to_string()))?;
    }
    let ids = api.store.enqueue_all(&tasks).await?;
    counter!(measure::TASKS_SUBMITTED).increment(ids.len() as u64);
    Ok((StatusCode::CREATED, Json(BatchView { ids })))
}

/// Puts a task that failed or was cancelled in again, as a new one with the same wishes.
#[utoipa::path(post, path = "/tasks/{id}/retry", tag = "tasks", params(("id" = Uuid, Path)), responses(
    (status = 201, description = "The new task", body = TaskView),
    (status = 409, description = "It has not failed, or its session is closed", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn retry(
    State(api): State<Api>,
    caller: Caller,
    Id(id): Id<Uuid>,
) -> Result<(StatusCode, Json<TaskView>), Refusal> {
    let task = find(&api, &caller, id).await?;
    open_session(&api, &caller, task.session).await?;
    let Some(again) = api.store.enqueue_again(id).await? else {
        let words =
            format!("the task is {}: only one that failed or was cancelled is put in again", task.status);
        return Err(Refusal::conflict(words));
    };
    Ok((StatusCode::CREATED, Json(view(find(&api, &caller, again).await?))))
}

/// The read gives a closed session its own words; the engine refuses it in any case.
async fn open_session(api: &Api, caller: &Caller, session: Uuid) -> Result<(), Refusal> {
    let status = api.store.session_status(session).await?;
    match status.filter(|(workspace, _)| caller.sees(WorkspaceId(*workspace))) {
        None => Err(Refusal::not_found("no such session: create one with POST /api/sessions")),
        Some((_, status)) if status != SessionStatus::Open.as_str() => {
            Err(Refusal::conflict("the session is closed: create a new one"))
        }
        Some(_) => Ok(()),
    }
}

pub(super) async fn find(api: &Api, caller: &Caller, id: Uuid) -> Result<TaskRow, Refusal> {
    let task = api.store.task(id).await?.filter(|task| caller.sees(WorkspaceId(task.workspace)));
    task.ok_or_else(|| Refusal::not_found("no such task"))
}

fn checked(body: api::NewTask) -> Result<NewTask, Refusal> {
    let agent = AgentName::new(body.agent).map_err(|error| Refusal::invalid(error.to_string()))?;
    if body.prompt.trim().is_empty() {
        return Err(Refusal::invalid("the prompt is empty"));
    }
    if body.prompt.len() > PROMPT_BYTES_MAX {
        return Err(Refusal::invalid(format!("the prompt is larger than {PROMPT_BYTES_MAX} bytes")));
    }
    let texts =
        [Some(&body.prompt), body.model.as_ref(), body.mode_id.as_ref(), body.thinking_option_id.as_ref()];
    if texts.into_iter().flatten().any(|text| text.contains('\0')) {
        return Err(Refusal::invalid(
            "a text holds a NUL character, which the database cannot store: remove it",
        ));
    }
    Ok(NewTask {
        session: body.session_id,
        agent: agent.as_str().to_owned(),
        prompt: body.prompt,
        model: body.model,
        mode_id: body.mode_id,
        thinking_option_id: body.thinking_option_id,
        feature_values: body.feature_values,
        priority: body.priority,
        run_at: body.run_at,
        max_failures: body.max_failures,
    })
}

fn idempotency_key(
    caller: &Caller,
    headers: &HeaderMap,
    body: &api::NewTask,
) -> Result<Option<IdempotencyKey>, Refusal> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    let key = value.to_str().ok().filter(|key| !key.is_empty() && key.len() <= 255);
    let Some(key) = key else {
        return Err(Refusal::invalid("Idempotency-Key must be 1 to 255 visible ASCII characters"));
    };
    let request = serde_json::to_vec(body).expect("a request that was JSON is JSON again");
    let request_hash = Sha256::digest(&request).iter().map(|byte| format!("{byte:02x}")).collect();
    let workspace = caller.workspace.map_or(DEFAULT_WORKSPACE, |workspace| workspace.0);
    Ok(Some(IdempotencyKey { workspace, key: key.to_owned(), request_hash }))
}

fn view(row: TaskRow) -> TaskView {
    TaskView {
        id: row.id,
        session_id: row.session,
        agent: row.agent,
        prompt: row.prompt,
        model: row.model,
        priority: row.priority,
        run_at: row.run_at,
        status: row.status,
        attempt: row.attempt,
        failures: row.failures,
        max_failures: row.max_failures,
        cancel_requested_at: row.cancel_requested_at,
        output: row.output,
        error: row.error,
        failure_reason: row.failure_reason,
        created_at: row.created_at,
        started_at: row.started_at,
        finished_at: row.finished_at,
        retry_of: row.retry_of,
        waits: None,
        attempts: Vec::new(),
    }
}
