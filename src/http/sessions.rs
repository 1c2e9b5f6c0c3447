//! `/api/sessions`.

use super::Api;
use super::node::CloseOutcome;
use super::page::Page;
use super::problem::{Body, Id, OptionalBody, Params, Refusal, limit};
use super::projects::{self, Place};
use super::tokens;
use crate::domain::access::Caller;
use crate::domain::agent::{AgentName, PermissionRule};
use crate::domain::ids::WorkspaceId;
use crate::domain::session::SessionStatus;
use crate::store::sessions::{Closed, ConversationSummary, SessionDetail, SessionFilter, SessionRow};
use crate::wire::api::{CloseSession, ClosedView, ConversationView, NewSession, Problem, SessionView};
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

/// Sessions, newest first.
#[utoipa::path(get, path = "/sessions", tag = "sessions", params(ListParams), responses((status = 200, description = "A page", body = Vec<SessionView>)))]
pub(super) async fn list(
    State(api): State<Api>,
    caller: Caller,
    OriginalUri(uri): OriginalUri,
    Params(params): Params<ListParams>,
) -> Result<Page<SessionView>, Refusal> {
    if let Some(status) = &params.status
        && !SessionStatus::ALL.iter().any(|known| known.as_str() == status)
    {
        return Err(Refusal::invalid("status must be open or closed"));
    }
    let limit = limit(params.limit, 50)?;
    let filter = SessionFilter {
        status: params.status,
        project: params.project,
        before: params.before,
        workspace: workspace_of(&caller),
    };
    let rows = api.store.sessions(&filter, limit).await?;
    let rows = rows.into_iter().map(session_view).collect();
    Ok(Page::of(rows, limit, &uri, "before", |session| session.id.to_string()))
}

/// Begins a session on a project.
#[utoipa::path(post, path = "/sessions", tag = "sessions", request_body = NewSession, responses((status = 201, description = "A new session", body = SessionView)))]
pub(super) async fn create(
    State(api): State<Api>,
    caller: Caller,
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
        (Some(project), None, None) => {
            let seen = api.store.projects(workspace_of(&caller)).await?;
            if !seen.iter().any(|known| known.id == project) {
                return Err(Refusal::not_found("no such project: GET /api/projects lists them"));
            }
            project
        }
        (None, path, url) => {
            let workspace = tokens::workspace(&api, &caller, body.workspace.as_deref()).await?;
            let place = Place { path: path.as_deref(), url: url.as_deref(), name: None };
            projects::ensure(&api, &caller, workspace, place).await?
        }
        (Some(_), _, _) => {
            return Err(Refusal::invalid(
                "name the project by project_id, by path or by url, not by two of them",
            ));
        }
    };
    let agents = to_prepare(&api, project, &body.prepare).await?;
    let id = api.store.create_session(project, &body.title, body.permission.as_deref()).await?;
    let session = find(&api, &caller, id).await?;
    if agents.is_empty() {
        return Ok((StatusCode::CREATED, Json(session_view(session.row))));
    }
    // The session is there in any case, and its first turn says what is wrong with its project.
    if let Err(error) = api.node.prepare(&session, &agents).await {
        tracing::warn!(session = %id, %error, "a session could not be prepared");
    }
    Ok((StatusCode::CREATED, Json(session_view(find(&api, &caller, id).await?.row))))
}

/// The agents of this node that are to be ready for a session of that project.
async fn to_prepare(api: &Api, project: Uuid, asked: &[String]) -> Result<Vec<AgentName>, Refusal> {
    if asked.is_empty() {
        return Ok(Vec::new());
    }
    let here = api
        .store
        .projects(None)
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
pub(super) async fn get(
    State(api): State<Api>,
    caller: Caller,
    Id(id): Id<Uuid>,
) -> Result<Json<SessionView>, Refusal> {
    let session = find(&api, &caller, id).await?;
    let conversations = api.store.conversations(id).await?;
    let conversations = conversations.into_iter().map(conversation_view).collect();
    Ok(Json(SessionView { conversations, ..session_view(session.row) }))
}

/// Closes a session; its worktree goes with it. Refused where that would lose work, unless it is to be forced or kept.
#[utoipa::path(post, path = "/sessions/{id}/close", tag = "sessions", params(("id" = Uuid, Path)), request_body = Option<CloseSession>, responses((status = 200, description = "What it came to", body = ClosedView), (status = 409, description = "A turn runs in it, it is closed, its worktree is on another node, or holds work that is nowhere else (`risk`)", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn close(
    State(api): State<Api>,
    caller: Caller,
    Id(id): Id<Uuid>,
    OptionalBody(CloseSession { force, keep }): OptionalBody<CloseSession>,
) -> Result<Json<ClosedView>, Refusal> {
    let session = find(&api, &caller, id).await?;
    if session.home.is_some_and(|home| home != api.node.id().0) {
        return Err(Refusal::conflict("the session's worktree is on another node: close it there"));
    }
    if force && keep {
        return Err(Refusal::invalid("force removes the worktree and keep leaves it: give one of them"));
    }
    let is_open = session.row.status == SessionStatus::Open.as_str();
    // A session with work to do is refused by the row below, whatever its worktree holds.
    if is_open && !force && !keep && session.row.worktree.is_some() && session.row.open_tasks == 0 {
        refuse_at_risk(&api, &session).await?;
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

/// A turn that begins meanwhile changes nothing: what it makes is kept then, and said so in the answer.
async fn refuse_at_risk(api: &Api, session: &SessionDetail) -> Result<(), Refusal> {
    let risk = api.node.risk(session).await.map_err(|error| Refusal::internal(error.to_string()))?;
    let Some(first) = risk.first() else { return Ok(()) };
    let more = if risk.len() > 1 { format!(", and {} more", risk.len() - 1) } else { String::new() };
    let words = format!(
        "its worktree holds work that is nowhere else ({first}{more}): apply it, or close with `force` (a last checkpoint is kept) or \
         with `keep` (the worktree stays)"
    );
    Err(Refusal::new(StatusCode::CONFLICT, "worktree_at_risk", words).at_risk(risk))
}

pub(super) async fn find(api: &Api, caller: &Caller, id: Uuid) -> Result<SessionDetail, Refusal> {
    let session =
        api.store.session(id).await?.filter(|session| caller.sees(WorkspaceId(session.row.workspace)));
    session.ok_or_else(|| Refusal::not_found("no such session"))
}

pub(super) fn workspace_of(caller: &Caller) -> Option<Uuid> {
    caller.workspace.map(|workspace| workspace.0)
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
