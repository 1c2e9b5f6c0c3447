//! `/api/tasks`.

use super::Api;
use super::problem::{Body, Id, Params, Refusal, limit};
use crate::domain::agent::AgentName;
use crate::domain::session::SessionStatus;
use crate::domain::task::{PROMPT_BYTES_MAX, TaskStatus};
use crate::store::sessions::DEFAULT_WORKSPACE;
use crate::store::tasks::{Enqueued, IdempotencyKey, NewTask, TaskRow};
use crate::wire::api::{self, TaskView};
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use uuid::Uuid;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListParams {
    session: Option<Uuid>,
    status: Option<String>,
    limit: Option<i64>,
}

pub(super) async fn list(
    State(api): State<Api>,
    Params(params): Params<ListParams>,
) -> Result<Json<Vec<TaskView>>, Refusal> {
    if let Some(status) = &params.status
        && TaskStatus::parse(status).is_none()
    {
        let known: Vec<&str> = TaskStatus::ALL.iter().map(|status| status.as_str()).collect();
        return Err(Refusal::invalid(format!("status must be one of {}", known.join(", "))));
    }
    let limit = limit(params.limit, 50)?;
    let rows = api.store.tasks(params.session, params.status.as_deref(), limit).await?;
    Ok(Json(rows.into_iter().map(view).collect()))
}

pub(super) async fn get(State(api): State<Api>, Id(id): Id<Uuid>) -> Result<Json<TaskView>, Refusal> {
    Ok(Json(view(find(&api, id).await?)))
}

pub(super) async fn create(
    State(api): State<Api>,
    headers: HeaderMap,
    Body(body): Body<api::NewTask>,
) -> Result<(StatusCode, Json<TaskView>), Refusal> {
    let key = idempotency_key(&headers, &body)?;
    let task = checked(body)?;
    // A repeat is answered whatever became of the session since.
    if let Some(key) = &key
        && let Some(before) = api.store.enqueued_before(key).await?
    {
        return answer(&api, before).await;
    }
    // The read also gives a closed session its own words; the engine refuses it in any case.
    match api.store.session_status(task.session).await? {
        None => return Err(Refusal::not_found("no such session: create one with POST /api/sessions")),
        Some(status) if status != SessionStatus::Open.as_str() => {
            return Err(Refusal::conflict("the session is closed: create a new one"));
        }
        Some(_) => {}
    }
    answer(&api, api.store.enqueue(&task, key.as_ref()).await?).await
}

async fn answer(api: &Api, enqueued: Enqueued) -> Result<(StatusCode, Json<TaskView>), Refusal> {
    let (status, id) = match enqueued {
        Enqueued::New(id) => (StatusCode::CREATED, id),
        Enqueued::Before(id) => (StatusCode::OK, id),
        Enqueued::KeyConflict => {
            return Err(Refusal::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "idempotency_key_reused",
                "this Idempotency-Key was used for another request: choose a new one",
            ));
        }
    };
    Ok((status, Json(view(find(api, id).await?))))
}

pub(super) async fn cancel(
    State(api): State<Api>,
    Id(id): Id<Uuid>,
) -> Result<(StatusCode, Json<TaskView>), Refusal> {
    let asked = api.store.ask_cancel(id).await?;
    let task = find(&api, id).await?;
    if !asked {
        return Err(Refusal::conflict(format!("the task has ended: it is {}", task.status)));
    }
    Ok((StatusCode::ACCEPTED, Json(view(task))))
}

pub(super) async fn find(api: &Api, id: Uuid) -> Result<TaskRow, Refusal> {
    api.store.task(id).await?.ok_or_else(|| Refusal::not_found("no such task"))
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

fn idempotency_key(headers: &HeaderMap, body: &api::NewTask) -> Result<Option<IdempotencyKey>, Refusal> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    let key = value.to_str().ok().filter(|key| !key.is_empty() && key.len() <= 255);
    let Some(key) = key else {
        return Err(Refusal::invalid("Idempotency-Key must be 1 to 255 visible ASCII characters"));
    };
    let request = serde_json::to_vec(body).expect("a request that was JSON is JSON again");
    let request_hash = Sha256::digest(&request).iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Some(IdempotencyKey { workspace: DEFAULT_WORKSPACE, key: key.to_owned(), request_hash }))
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
    }
}
