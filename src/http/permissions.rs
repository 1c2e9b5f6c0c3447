//! `/api/permissions`.

use super::page::Page;
use super::problem::{Body, Id, Params, Refusal, limit};
use super::{Api, permission_rules};
use crate::domain::access::Caller;
use crate::domain::ids::WorkspaceId;
use crate::domain::permission::PermissionKind;
use crate::domain::permission_rule::{RuleDecision, derived};
use crate::store::permission_rules::{AnsweredWithRule, NewRule};
use crate::store::permissions::{PermissionFilter, PermissionRow};
use crate::wire::api::{PermissionView, Problem};
use crate::wire::permission::{AnswerBody, RuleReach};
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
#[utoipa::path(post, path = "/permissions/{id}/answer", tag = "permissions", params(("id" = Uuid, Path)), request_body = AnswerBody, responses((status = 200, description = "The answer that holds", body = PermissionView), (status = 409, description = "Somebody else was faster, it expired, or there are too many rules", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn answer(
    State(api): State<Api>,
    caller: Caller,
    Id(id): Id<Uuid>,
    Body(body): Body<AnswerBody>,
) -> Result<Json<PermissionView>, Refusal> {
    let request = find(&api, &caller, id).await?;
    let fits = match body {
        AnswerBody::Answers { .. } => matches!(request.kind.as_str(), "question" | "elicitation"),
        AnswerBody::AllowOnce | AnswerBody::AllowAlways { .. } => {
            matches!(request.kind.as_str(), "tool" | "plan")
        }
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
    let won = match body {
        AnswerBody::AllowAlways { rule: Some(reach) } => {
            let rule = rule_of(&api, &caller, &request, reach).await?;
            match api.store.answer_with_rule(id, &json, "api", &rule).await? {
                AnsweredWithRule::Done(_) => {
                    permission_rules::answer_open(&api, &rule).await?;
                    true
                }
                AnsweredWithRule::NotPending => false,
                AnsweredWithRule::TooManyRules => return Err(permission_rules::too_many()),
            }
        }
        _ => api.store.answer_permission(id, &json, "api").await?,
    };
    let request = find(&api, &caller, id).await?;
    if won {
        Ok(Json(view(request)))
    } else {
        Err(Refusal::conflict(format!("the request is {} already", request.status)))
    }
}

/// The rule that allows what a request asks for, and nothing else.
async fn rule_of(
    api: &Api,
    caller: &Caller,
    request: &PermissionRow,
    reach: RuleReach,
) -> Result<NewRule, Refusal> {
    let kind = PermissionKind::parse(&request.kind).unwrap_or(PermissionKind::Question);
    let worktree = api.store.worktree_at_home(request.session).await?;
    let text = derived(kind, &request.payload, worktree.as_deref())
        .map_err(|none| Refusal::invalid(format!("no standing rule can be made of this: {none}")))?;
    let (session, agent) = match reach {
        RuleReach::Session => (Some(request.session), None),
        RuleReach::Agent => (None, Some(request.agent.clone())),
    };
    let (decision, by) = (RuleDecision::Allow, permission_rules::maker(caller));
    Ok(NewRule { workspace: request.workspace, session, agent, text, decision, by })
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
