//! `/api/tokens` and `/api/workspaces`: for admins.

use super::auth::{Token, admin, generate_token};
use super::problem::{Body, Id, Refusal};
use super::{Api, auth};
use crate::domain::access::{Caller, Scope};
use crate::store::sessions::DEFAULT_WORKSPACE;
use crate::wire::api::{NewToken, NewTokenView, NewWorkspace, Problem, TokenView, WorkspaceView};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use uuid::Uuid;

/// Every workspace that the token sees.
#[utoipa::path(get, path = "/workspaces", tag = "workspaces",
    responses((status = 200, description = "All", body = Vec<WorkspaceView>)))]
pub(super) async fn workspaces(
    State(api): State<Api>,
    caller: Caller,
) -> Result<Json<Vec<WorkspaceView>>, Refusal> {
    let rows = api.store.workspaces().await?.into_iter();
    let seen = rows.filter(|(id, ..)| caller.sees(crate::domain::ids::WorkspaceId(*id)));
    Ok(Json(seen.map(|(id, name, created_at)| WorkspaceView { id, name, created_at }).collect()))
}

/// Makes a workspace; for admins.
#[utoipa::path(post, path = "/workspaces", tag = "workspaces", request_body = NewWorkspace, responses(
    (status = 201, description = "A new workspace", body = WorkspaceView),
    (status = 409, description = "There is one of that name", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn create_workspace(
    State(api): State<Api>,
    caller: Caller,
    Body(body): Body<NewWorkspace>,
) -> Result<(StatusCode, Json<WorkspaceView>), Refusal> {
    admin(&caller)?;
    if body.name.contains('\0') {
        return Err(Refusal::invalid("the name holds a NUL character: remove it"));
    }
    let id = api.store.create_workspace(&body.name).await?;
    let id = id.ok_or_else(|| Refusal::conflict("there is a workspace of that name"))?;
    let made = api.store.workspaces().await?.into_iter().find(|(known, ..)| *known == id);
    let (id, name, created_at) = made.ok_or_else(|| Refusal::not_found("the workspace is gone again"))?;
    Ok((StatusCode::CREATED, Json(WorkspaceView { id, name, created_at })))
}

/// The workspace of that name, or the caller's own; of an admin that names none `default`.
pub(super) async fn workspace(api: &Api, caller: &Caller, named: Option<&str>) -> Result<Uuid, Refusal> {
    let Some(named) = named else {
        return Ok(caller.workspace.map_or(DEFAULT_WORKSPACE, |workspace| workspace.0));
    };
    let known = api.store.workspaces().await?.into_iter().find(|(_, name, _)| name == named);
    let seen = known.filter(|(id, ..)| caller.sees(crate::domain::ids::WorkspaceId(*id)));
    seen.map(|(id, ..)| id)
        .ok_or_else(|| Refusal::not_found("no such workspace: GET /api/workspaces lists them"))
}

/// Every token, newest first, without what lets somebody in; for admins.
#[utoipa::path(get, path = "/tokens", tag = "tokens",
    responses((status = 200, description = "All; revoked ones too", body = Vec<TokenView>),
              (status = 404, description = "The token is no admin's", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn list(State(api): State<Api>, caller: Caller) -> Result<Json<Vec<TokenView>>, Refusal> {
    admin(&caller)?;
    Ok(Json(api.store.tokens(None).await?))
}

/// Makes a token; its text is in this answer and nowhere else. For admins.
#[utoipa::path(post, path = "/tokens", tag = "tokens", request_body = NewToken,
    responses((status = 201, description = "A new token", body = NewTokenView)))]
pub(super) async fn create(
    State(api): State<Api>,
    caller: Caller,
    Body(body): Body<NewToken>,
) -> Result<(StatusCode, Json<NewTokenView>), Refusal> {
    admin(&caller)?;
    let scope = Scope::parse(&body.scope).ok_or_else(|| {
        Refusal::invalid(format!("scope must be one of {}", Scope::ALL.map(Scope::as_str).join(", ")))
    })?;
    if body.name.is_empty() || body.name.len() > 100 || body.name.contains('\0') {
        return Err(Refusal::invalid("the name must have 1 to 100 bytes without NUL characters"));
    }
    let workspace = match (scope, body.workspace.as_deref()) {
        (Scope::Admin, None) => None,
        (Scope::Admin, Some(_)) => {
            return Err(Refusal::invalid("an admin's token is for every workspace: leave out workspace"));
        }
        (Scope::Client | Scope::Runner, named) => Some(workspace(&api, &caller, named).await?),
    };
    let text = generate_token();
    let id = api.store.create_token(&body.name, scope, workspace, Token::of(&text).hash()).await?;
    let row = api.store.tokens(Some(id)).await?.into_iter().next();
    let row = row.ok_or_else(|| Refusal::not_found("the token is gone again"))?;
    Ok((StatusCode::CREATED, Json(NewTokenView { token: row, secret: text })))
}

/// Revokes a token: within seconds nobody gets in with it, and what it holds open is closed. For admins.
#[utoipa::path(post, path = "/tokens/{id}/revoke", tag = "tokens", params(("id" = Uuid, Path)), responses(
    (status = 200, description = "It lets nobody in", body = TokenView),
    (status = 409, description = "It was revoked before", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn revoke(
    State(api): State<Api>,
    caller: Caller,
    Id(id): Id<Uuid>,
) -> Result<Json<TokenView>, Refusal> {
    auth::admin(&caller)?;
    let revoked = api.store.revoke_token(id).await?;
    let row = api.store.tokens(Some(id)).await?.into_iter().next();
    let row = row.ok_or_else(|| Refusal::not_found("no such token: GET /api/tokens lists them"))?;
    if revoked { Ok(Json(row)) } else { Err(Refusal::conflict("the token was revoked before")) }
}
