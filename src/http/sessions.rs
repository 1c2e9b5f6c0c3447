//! `/api/projects` and `/api/sessions`.

use super::Api;
use super::node::CloseOutcome;
use super::page::Page;
use super::problem::{Body, Id, OptionalBody, Params, Refusal, limit};
use crate::domain::agent::{AgentName, PermissionRule};
use crate::domain::clone_url::check_clone_url;
use crate::domain::session::SessionStatus;
use crate::store::sessions::{Closed, ConversationSummary, ProjectRow, SessionDetail, SessionRow};
use crate::wire::api::{
    CloseSession, ClosedView, ConversationView, NewProject, NewSession, Problem, ProjectView, SessionView,
    WorkspaceView,
};
use axum::Json;
use axum::extract::{OriginalUri, State};
use axum::http::StatusCode;
use serde::Deserialize;
use uuid::Uuid;

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListParams {
    /// `open` or `closed`.
    status: Option<String>,
    /// On that project.
    project: Option<Uuid>,
    /// Older than that session: what `Link` names.
    before: Option<Uuid>,
    /// 1 to 500; 50 by default.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<i64>,
}

/// Every workspace.
#[utoipa::path(get, path = "/workspaces", tag = "projects", responses((status = 200, description = "All", body = Vec<WorkspaceView>)))]
pub(super) async fn workspaces(State(api): State<Api>) -> Result<Json<Vec<WorkspaceView>>, Refusal> {
    let rows = api.store.workspaces().await?.into_iter();
    Ok(Json(rows.map(|(id, name, created_at)| WorkspaceView { id, name, created_at }).collect()))
}

/// Every project.
#[utoipa::path(get, path = "/projects", tag = "projects", responses((status = 200, description = "All", body = Vec<ProjectView>)))]
pub(super) async fn projects(State(api): State<Api>) -> Result<Json<Vec<ProjectView>>, Refusal> {
    Ok(Json(api.store.projects().await?.into_iter().map(project_view).collect()))
}

/// Makes a repository known; one that is known already is answered as it is.
#[utoipa::path(post, path = "/projects", tag = "projects", request_body = NewProject, responses((status = 201, description = "The project", body = ProjectView)))]
pub(super) async fn create_project(
    State(api): State<Api>,
    Body(body): Body<NewProject>,
) -> Result<(StatusCode, Json<ProjectView>), Refusal> {
    let id = ensure_project(&api, body.path.as_deref(), body.url.as_deref(), body.name).await?;
    let project = api.store.projects().await?.into_iter().find(|project| project.id == id);
    let project = project.ok_or_else(|| Refusal::not_found("the project is gone again"))?;
    Ok((StatusCode::CREATED, Json(project_view(project))))
}

/// Sessions, newest first.
#[utoipa::path(get, path = "/sessions", tag = "sessions", params(ListParams), responses((status = 200, description = "A page", body = Vec<SessionView>)))]
pub(super) async fn list(
    State(api): State<Api>,
    OriginalUri(uri): OriginalUri,
    Params(params): Params<ListParams>,
) -> Result<Page<SessionView>, Refusal> {
    if let Some(status) = &params.status
        && !SessionStatus::ALL.iter().any(|known| known.as_str() == status)
    {
        return Err(Refusal::invalid("status must be open or closed"));
    }
    let limit = limit(params.limit, 50)?;
    let rows = api.store.sessions(params.status.as_deref(), params.project, params.before, limit).await?;
    let rows = rows.into_iter().map(session_view).collect();
    Ok(Page::of(rows, limit, &uri, "before", |session| session.id.to_string()))
}

/// Begins a session on a project.
#[utoipa::path(post, path = "/sessions", tag = "sessions", request_body = NewSession, responses((status = 201, description = "A new session", body = SessionView)))]
pub(super) async fn create(
    State(api): State<Api>,
    Body(body): Body<NewSession>,
) -> Result<(StatusCode, Json<SessionView>), Refusal> {
    if body.title.contains('\0') || body.title.len() > 1000 {
        return Err(Refusal::invalid("the title must be at most 1000 bytes without NUL characters"));
    }
    if let Some(word) = &body.permission
        && PermissionRule::parse(word).is_none()
    {
        let words = PermissionRule::ALL.map(PermissionRule::as_str).join(", ");
        return Err(Refusal::invalid(format!("permission must be one of {words}")));
    }
    let project = match (body.project_id, &body.path, &body.url) {
        (Some(project), None, None) => project,
        (None, path, url) => ensure_project(&api, path.as_deref(), url.as_deref(), None).await?,
        (Some(_), _, _) => {
            return Err(Refusal::invalid(
                "name the project by project_id, by path or by url, not by two of them",
            ));
        }
    };
    let agents = to_prepare(&api, project, &body.prepare).await?;
    let id = api.store.create_session(project, &body.title, body.permission.as_deref()).await?;
    let session = find(&api, id).await?;
    if agents.is_empty() {
        return Ok((StatusCode::CREATED, Json(session_view(session.row))));
    }
    // The session is there in any case, and its first turn says what is wrong with its project.
    if let Err(error) = api.node.prepare(&session, &agents).await {
        tracing::warn!(session = %id, %error, "a session could not be prepared");
    }
    Ok((StatusCode::CREATED, Json(session_view(find(&api, id).await?.row))))
}

/// The agents of this node that are to be ready for a session of that project.
async fn to_prepare(api: &Api, project: Uuid, asked: &[String]) -> Result<Vec<AgentName>, Refusal> {
    if asked.is_empty() {
        return Ok(Vec::new());
    }
    let here = api
        .store
        .projects()
        .await?
        .into_iter()
        .any(|known| known.id == project && known.node == Some(api.node.id().0));
    if !here {
        return Err(Refusal::invalid(
            "only a session on a repository of this node can be prepared: leave out prepare",
        ));
    }
    let known = api.node.backends();
    let agent = |name: &String| {
        let agent =
            AgentName::new(name.clone()).ok().filter(|_| known.iter().any(|known| known.agent == *name));
        agent.ok_or_else(|| {
            Refusal::invalid(format!(
                "prepare names {name}, which this node does not run: GET /api/agents lists what it runs"
            ))
        })
    };
    asked.iter().map(agent).collect()
}

/// One session with its conversations.
#[utoipa::path(get, path = "/sessions/{id}", tag = "sessions", params(("id" = Uuid, Path)), responses((status = 200, description = "The session", body = SessionView)))]
pub(super) async fn get(State(api): State<Api>, Id(id): Id<Uuid>) -> Result<Json<SessionView>, Refusal> {
    let session = find(&api, id).await?;
    let conversations = api.store.conversations(id).await?;
    let conversations = conversations.into_iter().map(conversation_view).collect();
    Ok(Json(SessionView { conversations, ..session_view(session.row) }))
}

/// Closes a session; its worktree goes when nothing would be lost.
#[utoipa::path(post, path = "/sessions/{id}/close", tag = "sessions", params(("id" = Uuid, Path)), request_body = Option<CloseSession>, responses((status = 200, description = "What it came to", body = ClosedView), (status = 409, description = "A turn runs in it, it is closed, or its worktree is on another node", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn close(
    State(api): State<Api>,
    Id(id): Id<Uuid>,
    OptionalBody(CloseSession { force }): OptionalBody<CloseSession>,
) -> Result<Json<ClosedView>, Refusal> {
    let session = find(&api, id).await?;
    if session.home.is_some_and(|home| home != api.node.id().0) {
        return Err(Refusal::conflict("the session's worktree is on another node: close it there"));
    }
    let ended = match api.store.close_session(id).await? {
        Closed::Busy => return Err(Refusal::conflict("a turn runs in this session: cancel it first")),
        Closed::Done(ended) => ended,
        // Closing again with force takes a kept worktree away, and tells the agents that were not told the first time.
        Closed::NotOpen if session.row.worktree.is_some() => api.store.closed_conversations(id).await?,
        Closed::NotOpen => return Err(Refusal::conflict("the session is closed already")),
    };
    let outcome = api
        .node
        .end_session(&session, &ended, force)
        .await
        .map_err(|error| Refusal::internal(error.to_string()))?;
    let kept_because = match &outcome {
        CloseOutcome::Kept(why) => why.clone(),
        CloseOutcome::NoWorktree | CloseOutcome::Removed => Vec::new(),
    };
    if outcome == CloseOutcome::Removed {
        api.store.worktree_removed(id, api.node.id().0).await?;
    }
    let kept = matches!(outcome, CloseOutcome::Kept(_));
    Ok(Json(ClosedView {
        worktree_removed: outcome == CloseOutcome::Removed,
        kept_because,
        worktree: session.row.worktree.filter(|_| kept),
    }))
}

pub(super) async fn find(api: &Api, id: Uuid) -> Result<SessionDetail, Refusal> {
    api.store.session(id).await?.ok_or_else(|| Refusal::not_found("no such session"))
}

async fn ensure_project(
    api: &Api,
    path: Option<&str>,
    url: Option<&str>,
    name: Option<String>,
) -> Result<Uuid, Refusal> {
    if name.as_ref().is_some_and(|name| name.is_empty() || name.len() > 200 || name.contains('\0')) {
        return Err(Refusal::invalid("the name must have 1 to 200 bytes without NUL characters"));
    }
    match (path, url) {
        (Some(path), None) => {
            let path = api.node.usable_repository(path).await.map_err(Refusal::invalid)?;
            let path = path.to_string_lossy();
            let name = name.unwrap_or_else(|| last_part(&path));
            Ok(api.store.ensure_project(&name, Some(&path), None, Some(api.node.id().0)).await?)
        }
        (None, Some(url)) => {
            check_clone_url(url).map_err(|bad| Refusal::invalid(bad.to_string()))?;
            let name = name.unwrap_or_else(|| last_part(url));
            Ok(api.store.ensure_project(&name, None, Some(url), None).await?)
        }
        _ => Err(Refusal::invalid("name the project by path or by url")),
    }
}

fn last_part(place: &str) -> String {
    let last = place.trim_end_matches('/').rsplit(['/', ':']).next().unwrap_or(place);
    let last = last.strip_suffix(".git").unwrap_or(last);
    if last.is_empty() { "project".to_owned() } else { last.to_owned() }
}

fn project_view(row: ProjectRow) -> ProjectView {
    ProjectView { id: row.id, name: row.name, path: row.path, url: row.url }
}

fn session_view(row: SessionRow) -> SessionView {
    SessionView {
        id: row.id,
        project_id: row.project,
        project: row.project_name,
        title: row.title,
        status: row.status,
        permission: row.permission_policy,
        open_tasks: row.open_tasks,
        worktree: row.worktree,
        agents: row.agents,
        created_at: row.created_at,
        closed_at: row.closed_at,
        conversations: Vec::new(),
    }
}

fn conversation_view(row: ConversationSummary) -> ConversationView {
    ConversationView {
        agent: row.agent,
        backend: row.backend,
        agent_session_id: row.agent_session_id,
        server_port: row.server_port,
        status: row.status,
        poisoned_reason: row.poisoned_reason,
        turns: row.turns,
        input_tokens: row.input_tokens,
        output_tokens: row.output_tokens,
        cost_usd: row.cost_usd,
        last_active_at: row.last_active_at,
    }
}
