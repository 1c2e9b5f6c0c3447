//! `/api/projects`: the repositories that sessions are on.

use super::problem::{Body, Refusal};
use super::sessions::workspace_of;
use super::{Api, tokens};
use crate::domain::access::Caller;
use crate::domain::clone_url::check_clone_url;
use crate::store::sessions::ProjectRow;
use crate::wire::api::{NewProject, ProjectView};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use uuid::Uuid;

/// Every project.
#[utoipa::path(get, path = "/projects", tag = "projects", responses((status = 200, description = "All", body = Vec<ProjectView>)))]
pub(super) async fn list(State(api): State<Api>, caller: Caller) -> Result<Json<Vec<ProjectView>>, Refusal> {
    Ok(Json(api.store.projects(workspace_of(&caller)).await?.into_iter().map(project_view).collect()))
}

/// Makes a repository known; one that is known already is answered as it is.
#[utoipa::path(post, path = "/projects", tag = "projects", request_body = NewProject, responses((status = 201, description = "The project", body = ProjectView)))]
pub(super) async fn create(
    State(api): State<Api>,
    caller: Caller,
    Body(body): Body<NewProject>,
) -> Result<(StatusCode, Json<ProjectView>), Refusal> {
    let workspace = tokens::workspace(&api, &caller, body.workspace.as_deref()).await?;
    let place = Place { path: body.path.as_deref(), url: body.url.as_deref(), name: body.name };
    let id = ensure(&api, &caller, workspace, place).await?;
    let project = api.store.projects(None).await?.into_iter().find(|project| project.id == id);
    let project = project.ok_or_else(|| Refusal::not_found("the project is gone again"))?;
    Ok((StatusCode::CREATED, Json(project_view(project))))
}

/// Where a project lies.
pub(super) struct Place<'a> {
    pub(super) path: Option<&'a str>,
    pub(super) url: Option<&'a str>,
    pub(super) name: Option<String>,
}

/// The project of that place, made when it is new. A path of this machine is made known by admins alone: whoever works in a session
/// on it reads it.
pub(super) async fn ensure(
    api: &Api,
    caller: &Caller,
    workspace: Uuid,
    Place { path, url, name }: Place<'_>,
) -> Result<Uuid, Refusal> {
    if name.as_ref().is_some_and(|name| name.is_empty() || name.len() > 200 || name.contains('\0')) {
        return Err(Refusal::invalid("the name must have 1 to 200 bytes without NUL characters"));
    }
    match (path, url) {
        (Some(path), None) if !caller.is_admin() => {
            let known = api.store.projects(Some(workspace)).await?;
            let known = known.into_iter().find(|known| known.path.as_deref() == Some(path));
            known.map(|known| known.id).ok_or_else(|| {
                Refusal::not_found("no such project: only an admin makes a path of this machine known, by POST /api/projects")
            })
        }
        (Some(path), None) => {
            let path = api.node.usable_repository(path).await.map_err(Refusal::invalid)?;
            let path = path.to_string_lossy();
            let name = name.unwrap_or_else(|| last_part(&path));
            Ok(api.store.ensure_project(workspace, &name, Some(&path), None, Some(api.node.id().0)).await?)
        }
        (None, Some(url)) => {
            check_clone_url(url).map_err(|bad| Refusal::invalid(bad.to_string()))?;
            let name = name.unwrap_or_else(|| last_part(url));
            Ok(api.store.ensure_project(workspace, &name, None, Some(url), None).await?)
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
