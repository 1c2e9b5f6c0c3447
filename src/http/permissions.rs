//! `/api/permissions`.

use super::Api;
use super::problem::{Body, Id, Params, Refusal, limit};
use crate::store::permissions::PermissionRow;
use crate::wire::api::PermissionView;
use crate::wire::permission::AnswerBody;
use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use uuid::Uuid;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListParams {
    #[serde(default)]
    all: bool,
    limit: Option<i64>,
}

pub(super) async fn list(
    State(api): State<Api>,
    Params(params): Params<ListParams>,
) -> Result<Json<Vec<PermissionView>>, Refusal> {
    let rows = api.store.permissions(params.all, limit(params.limit, 100)?).await?;
    Ok(Json(rows.into_iter().map(view).collect()))
}

pub(super) async fn answer(
    State(api): State<Api>,
    Id(id): Id<Uuid>,
    Body(body): Body<AnswerBody>,
) -> Result<Json<PermissionView>, Refusal> {
    let request = find(&api, id).await?;
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
    let request = find(&api, id).await?;
    if won {
        Ok(Json(view(request)))
    } else {
        Err(Refusal::conflict(format!("the request is {} already", request.status)))
    }
}

async fn find(api: &Api, id: Uuid) -> Result<PermissionRow, Refusal> {
    api.store.permission(id).await?.ok_or_else(|| Refusal::not_found("no such permission request"))
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
