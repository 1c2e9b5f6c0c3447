//! `/api/permissions`.

use super::Api;
use super::page::Page;
use super::problem::{Body, Id, Params, Refusal, limit};
use crate::domain::access::Caller;
use crate::domain::ids::WorkspaceId;
use crate::store::permissions::{PermissionFilter, PermissionRow};
use crate::wire::api::{PermissionView, Problem};
use crate::wire::permission::AnswerBody;
use axum::Json;
use axum::extract::{OriginalUri, State};
use serde::Deserialize;
use uuid::Uuid;

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListParams {
    /// Those that were answered too.
    #[serde(default)]
    all: bool,
    /// Of that session.
    session: Option<Uuid>,
    /// Older than that request: what `Link` names.
    before: Option<Uuid>,
    /// 1 to 500; 100 by default.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<i64>,
}

/// What agents ask, newest first.
#[utoipa::path(get, path = "/permissions", tag = "permissions", params(ListParams), responses((status = 200, description = "A page", body = Vec<PermissionView>)))]
pub(super) async fn list(
    State(api): State<Api>,
    caller: Caller,
    OriginalUri(uri): OriginalUri,
    Params(params): Params<ListParams>,
) -> Result<Page<PermissionView>, Refusal> {
    let limit = limit(params.limit, 100)?;
    let filter = PermissionFilter {
        all: params.all,
        session: params.session,
        before: params.before,
        workspace: caller.workspace.map(|workspace| workspace.0),
    };
    let rows = api.store.permissions(&filter, limit).await?;
    Ok(Page::of(rows.into_iter().map(view).collect(), limit, &uri, "before", |request| {
        request.id.to_string()
    }))
}

/// Answers what an agent asked; of two answers one wins.
#[utoipa::path(post, path = "/permissions/{id}/answer", tag = "permissions", params(("id" = Uuid, Path)), request_body = AnswerBody, responses((status = 200, description = "The answer that holds", body = PermissionView), (status = 409, description = "Somebody else was faster, or it expired", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn answer(
    State(api): State<Api>,
    caller: Caller,
    Id(id): Id<Uuid>,
    Body(body): Body<AnswerBody>,
) -> Result<Json<PermissionView>, Refusal> {
    let request = find(&api, &caller, id).await?;
    let fits = match body {
        AnswerBody::Answers { .. } => matches!(request.kind.as_str(), "question" | "elicitation"),
        AnswerBody::AllowOnce | AnswerBody::AllowAlways => matches!(request.kind.as_str(), "tool" | "plan"),
        AnswerBody::Deny { .. } => true,
    };
    if !fits {
        let words = format!(
            "a {} is not answered this way: questions take answers, tools and plans allow or deny",
            request.kind
        );
        return Err(Refusal::invalid(words));
    }
    let json = serde_json::to_value(&body).expect("an enum of strings is always JSON");
    if json.to_string().contains("\\u0000") {
        return Err(Refusal::invalid("the answer holds a NUL character: remove it"));
    }
    let won = api.store.answer_permission(id, &json, "api").await?;
    let request = find(&api, &caller, id).await?;
    if won {
        Ok(Json(view(request)))
    } else {
        Err(Refusal::conflict(format!("the request is {} already", request.status)))
    }
}

async fn find(api: &Api, caller: &Caller, id: Uuid) -> Result<PermissionRow, Refusal> {
    let request = api.store.permission(id).await?.filter(|asked| caller.sees(WorkspaceId(asked.workspace)));
    request.ok_or_else(|| Refusal::not_found("no such permission request"))
}

fn view(row: PermissionRow) -> PermissionView {
    PermissionView {
        id: row.id,
        session_id: row.session,
        task_id: row.task,
        agent: row.agent,
        kind: row.kind,
        title: row.title,
        payload: row.payload,
        status: row.status,
        answer: row.answer,
        answered_by: row.answered_by,
        repeats: row.repeats,
        deadline: row.deadline,
        created_at: row.created_at,
    }
}
