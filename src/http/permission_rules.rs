//! `/api/permission-rules`: what people allow or forbid for more than one question. What a rule matches, the domain says.

use super::Api;
use super::page::Page;
use super::problem::{Body, Id, Params, Refusal, limit};
use super::sessions::{self, workspace_of};
use super::tokens;
use crate::domain::access::Caller;
use crate::domain::agent::AgentName;
use crate::domain::ids::WorkspaceId;
use crate::domain::permission_rule::{RuleDecision, RuleText, StandingRule, answerer, ruling_on};
use crate::domain::text::clean_json;
use crate::store::permission_rules::{NewRule, RULES_MAX, RuleFilter, RuleRow};
use crate::wire::api::{NewPermissionRule, PermissionRuleView, Problem};
use crate::wire::permission::to_json;
use axum::Json;
use axum::extract::{OriginalUri, State};
use axum::http::StatusCode;
use serde::Deserialize;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use uuid::Uuid;

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListParams {
    /// For that session.
    session: Option<Uuid>,
    /// For that agent.
    agent: Option<String>,
    /// Older than that rule: what `Link` names.
    before: Option<Uuid>,
    /// 1 to 500; 100 by default.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<i64>,
}

/// Standing rules, newest first.
#[utoipa::path(get, path = "/permission-rules", tag = "permission_rules", params(ListParams), responses((status = 200, description = "A page", body = Vec<PermissionRuleView>)))]
pub(super) async fn list(
    State(api): State<Api>,
    caller: Caller,
    OriginalUri(uri): OriginalUri,
    Params(params): Params<ListParams>,
) -> Result<Page<PermissionRuleView>, Refusal> {
    let limit = limit(params.limit, 100)?;
    let filter = RuleFilter {
        id: None,
        session: params.session,
        agent: params.agent,
        before: params.before,
        workspace: workspace_of(&caller),
    };
    let rows = api.store.rules(&filter, limit).await?;
    Ok(Page::of(rows.into_iter().map(view).collect(), limit, &uri, "before", |rule| rule.id.to_string()))
}

/// Makes a standing rule, and answers what is open and matches. Made before, it is that one.
#[utoipa::path(post, path = "/permission-rules", tag = "permission_rules", request_body = NewPermissionRule, responses(
    (status = 201, description = "It holds", body = PermissionRuleView),
    (status = 409, description = "There are too many", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn create(
    State(api): State<Api>,
    caller: Caller,
    Body(body): Body<NewPermissionRule>,
) -> Result<(StatusCode, Json<PermissionRuleView>), Refusal> {
    let decision = RuleDecision::parse(&body.decision).ok_or_else(|| {
        let words = RuleDecision::ALL.map(RuleDecision::as_str).join(" or ");
        Refusal::invalid(format!("decision must be {words}"))
    })?;
    let text = RuleText { tool: body.tool, pattern: body.pattern, exact: body.exact };
    let rule =
        StandingRule::new(Uuid::nil(), text, decision).map_err(|bad| Refusal::invalid(bad.to_string()))?;
    if let Some(name) = &body.agent {
        AgentName::new(name).map_err(|bad| Refusal::invalid(bad.to_string()))?;
    }
    let workspace = match (body.session_id, &body.agent, &body.workspace) {
        (Some(_), _, Some(_)) => {
            return Err(Refusal::invalid("a session has its workspace already: leave out workspace"));
        }
        (Some(session), _, None) => sessions::find(&api, &caller, session).await?.row.workspace,
        (None, Some(_), named) => tokens::workspace(&api, &caller, named.as_deref()).await?,
        (None, None, _) => {
            return Err(Refusal::invalid("say for what the rule is: session_id, agent, or both"));
        }
    };
    let new = NewRule {
        workspace,
        session: body.session_id,
        agent: body.agent,
        text: rule.text().clone(),
        decision,
        by: maker(&caller),
    };
    let id = api.store.create_rule(&new).await?.ok_or_else(too_many)?;
    answer_open(&api, &new).await?;
    Ok((StatusCode::CREATED, Json(view(find(&api, &caller, id).await?))))
}

/// Takes a rule away; what it answered stays answered.
#[utoipa::path(delete, path = "/permission-rules/{id}", tag = "permission_rules", params(("id" = Uuid, Path)), responses((status = 204, description = "It holds no more")))]
pub(super) async fn delete(
    State(api): State<Api>,
    caller: Caller,
    Id(id): Id<Uuid>,
) -> Result<StatusCode, Refusal> {
    let rule = find(&api, &caller, id).await?;
    if api.store.delete_rule(rule.id).await? { Ok(StatusCode::NO_CONTENT) } else { Err(unknown()) }
}

/// Gives what is open the answer of the rules that hold now, where a new one may have changed it. Whoever was faster wins.
pub(super) async fn answer_open(api: &Api, made: &NewRule) -> Result<(), Refusal> {
    let mut known: HashMap<(Uuid, String), Vec<StandingRule>> = HashMap::new();
    for request in api.store.open_requests(made.workspace, made.session, made.agent.as_deref()).await? {
        let rules = match known.entry((request.session, request.agent)) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(unknown) => {
                let (session, agent) = unknown.key();
                let rules = api.store.standing_rules(*session, agent).await?;
                unknown.insert(rules)
            }
        };
        if let Some(rule) = ruling_on(rules, &request.payload, request.worktree.as_deref()) {
            let answer = clean_json(to_json(rule.answer()));
            api.store.answer_permission(request.id, &answer, &answerer(rule.id)).await?;
        }
    }
    Ok(())
}

/// Who makes a rule.
pub(super) fn maker(caller: &Caller) -> String {
    caller.token.map_or_else(|| "owner".to_owned(), |token| format!("token {token}"))
}

pub(super) fn too_many() -> Refusal {
    Refusal::conflict(format!(
        "there are {RULES_MAX} rules for this session or agent already: DELETE some that GET /api/permission-rules lists"
    ))
}

async fn find(api: &Api, caller: &Caller, id: Uuid) -> Result<RuleRow, Refusal> {
    let filter = RuleFilter { id: Some(id), ..RuleFilter::default() };
    let row = api.store.rules(&filter, 1).await?.into_iter().next();
    row.filter(|row| caller.sees(WorkspaceId(row.workspace))).ok_or_else(unknown)
}

fn unknown() -> Refusal {
    Refusal::not_found("no such rule: GET /api/permission-rules lists them")
}

fn view(row: RuleRow) -> PermissionRuleView {
    let RuleText { tool, pattern, exact } = row.text;
    PermissionRuleView {
        id: row.id,
        session_id: row.session,
        agent: row.agent,
        tool,
        pattern,
        exact,
        decision: row.decision,
        created_at: row.created_at,
        created_by: row.created_by,
    }
}
