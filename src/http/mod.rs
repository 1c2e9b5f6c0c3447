//! The HTTP API: checks what comes in, reads and writes rows, answers JSON and streams. Never runs a turn; what is only in this
//! process (pool, worktrees) it reaches through [`LocalNode`].

mod agents;
mod auth;
mod changes;
mod health;
mod node;
mod permissions;
mod problem;
mod sessions;
mod stream;
mod tasks;

pub use auth::{Token, generate_token};
pub use node::{CloseOutcome, LocalError, LocalNode};
pub use stream::{Feed, FeedWake};

use crate::store::Store;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;

/// Largest request body: a prompt of 1 MiB is 6 MiB of JSON when each byte is escaped as `\uXXXX`.
const BODY_BYTES_MAX: usize = 8 << 20;

/// What every handler works with. Cheap to clone.
#[derive(Clone)]
pub struct Api {
    /// Rows.
    pub store: Store,
    /// This process.
    pub node: Arc<dyn LocalNode>,
    /// Wakes of stream readers.
    pub feed: Feed,
    /// Who may come in.
    pub token: Token,
    /// The database's epoch, part of every cursor.
    pub epoch: Arc<str>,
    /// Ends the streams when the program ends.
    pub closing: CancellationToken,
}

/// All routes.
pub fn router(api: Api) -> Router {
    let private = Router::new()
        .route("/projects", get(sessions::projects).post(sessions::create_project))
        .route("/sessions", get(sessions::list).post(sessions::create))
        .route("/sessions/{id}", get(sessions::get))
        .route("/sessions/{id}/close", post(sessions::close))
        .route("/sessions/{id}/events", get(stream::session))
        .route("/sessions/{id}/changes", get(changes::list))
        .route("/sessions/{id}/changes/apply", post(changes::apply))
        .route("/tasks", get(tasks::list).post(tasks::create))
        .route("/tasks/{id}", get(tasks::get))
        .route("/tasks/{id}/cancel", post(tasks::cancel))
        .route("/tasks/{id}/events", get(stream::task))
        .route("/permissions", get(permissions::list))
        .route("/permissions/{id}/answer", post(permissions::answer))
        .route("/pool", get(health::pool))
        .route("/agents", get(agents::list))
        .route("/agents/{name}", get(agents::get))
        .fallback(problem::no_route)
        .method_not_allowed_fallback(problem::wrong_method)
        .layer(axum::middleware::from_fn_with_state(api.clone(), auth::require_token));
    Router::new()
        .nest("/api", private)
        .route("/livez", get(health::livez))
        .route("/readyz", get(health::readyz))
        .route("/healthz", get(health::healthz))
        .fallback(problem::no_route)
        .method_not_allowed_fallback(problem::wrong_method)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(axum::middleware::from_fn(auth::require_known_host))
        .layer(CatchPanicLayer::custom(problem::panicked))
        .with_state(api)
}
