//! `/api/agents`, `/api/agents/{name}`: who can run tasks, and what each offers.

use super::Api;
use super::problem::Refusal;
use crate::domain::agent::AgentName;
use crate::wire::api::AgentView;
use crate::wire::catalogue::AgentDetailView;
use axum::Json;
use axum::extract::{Path, State};
use std::time::Duration;

/// How long an agent may take to be started and asked. A loaded machine was seen to need a minute.
const CATALOGUE_DEADLINE: Duration = Duration::from_secs(120);

/// Agents that tasks may name.
#[utoipa::path(get, path = "/agents", tag = "agents", responses((status = 200, description = "All", body = Vec<AgentView>)))]
pub(super) async fn list(State(api): State<Api>) -> Result<Json<Vec<AgentView>>, Refusal> {
    views(&api).await.map(Json)
}

/// One agent, with what it offers; it may be started to be asked.
#[utoipa::path(get, path = "/agents/{name}", tag = "agents", params(("name" = String, Path)), responses((status = 200, description = "The agent", body = AgentDetailView)))]
pub(super) async fn get(
    State(api): State<Api>,
    Path(name): Path<String>,
) -> Result<Json<AgentDetailView>, Refusal> {
    let unknown = || Refusal::not_found("no such agent: GET /api/agents lists them");
    let agent = views(&api).await?.into_iter().find(|agent| agent.name == name).ok_or_else(unknown)?;
    let name = AgentName::new(name).map_err(|_| unknown())?;
    let asked = tokio::time::timeout(CATALOGUE_DEADLINE, api.node.catalogue(&name)).await;
    let late = || format!("it did not answer within {} s", CATALOGUE_DEADLINE.as_secs());
    let (catalogue, catalogue_error) = match asked.unwrap_or_else(|_| Err(late())) {
        Ok(catalogue) => (Some(catalogue.into()), None),
        Err(error) => (None, Some(error)),
    };
    Ok(Json(AgentDetailView { agent, catalogue, catalogue_error }))
}

async fn views(api: &Api) -> Result<Vec<AgentView>, Refusal> {
    let here = api.node.backends();
    let rows = api.store.agents().await?;
    let view = |row: crate::store::agents::AgentRow| {
        let backend = here.iter().find(|backend| backend.agent == row.name);
        AgentView {
            name: row.name,
            backend: row.backend,
            default_model: row.default_model,
            state: backend.map_or_else(|| "elsewhere".to_owned(), |backend| backend.state.clone()),
            detail: backend.map_or_else(String::new, |backend| backend.detail.clone()),
            parked_until: backend.and_then(|backend| backend.parked_until),
        }
    };
    Ok(rows.into_iter().map(view).collect())
}
