//! The HTTP API: checks what comes in, reads and writes rows, answers JSON and streams. Never runs a turn; what is only in this
//! process (pool, worktrees) it reaches through [`LocalNode`].

mod agents;
mod auth;
mod changes;
mod checkpoints;
mod doors;
mod feed;
mod health;
mod hints;
mod local_review;
mod messages;
mod metrics;
mod node;
mod openapi;
mod outlet;
mod page;
mod permission_rules;
mod permissions;
mod problem;
mod projects;
mod request_id;
mod review;
mod serve;
mod sessions;
mod steps;
mod stream;
mod tasks;
mod tls;
mod tokens;
mod usage;
mod waiting;

pub use auth::{Gate, Token, generate_token};
pub use doors::Doors;
pub use feed::{Feed, FeedWake};
pub use local_review::{LocalReview, NewBranch, Since, States};
pub use node::{CloseOutcome, LocalError, LocalNode};
pub use serve::serve;
pub use tls::{Tls, TlsError};

use crate::store::Store;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusHandle;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Largest request body: a prompt of 1 MiB, with room for its quotes and line ends to be escaped.
const BODY_BYTES_MAX: usize = 2 << 20;

/// What every handler works with. Cheap to clone.
#[derive(Clone)]
pub struct Api {
    /// Rows.
    pub store: Store,
    /// This process.
    pub node: Arc<dyn LocalNode>,
    /// Its worktrees, for reviews.
    pub review: Arc<dyn LocalReview>,
    /// Wakes of stream readers.
    pub feed: Feed,
    /// Who may come in.
    pub gate: Arc<Gate>,
    /// By which names.
    pub doors: Arc<Doors>,
    /// The database's epoch, part of every cursor.
    pub epoch: Arc<str>,
    /// What was counted, for `/metrics`.
    pub metrics: PrometheusHandle,
    /// What `/api/openapi.json` answers; filled in by [`router`].
    pub openapi: Arc<str>,
    /// What goes to its end though its request is gone.
    pub steps: TaskTracker,
    /// Ends the streams when the program ends.
    pub closing: CancellationToken,
}

/// All routes.
pub fn router(api: Api) -> Router {
    let doc = OpenApiRouter::with_openapi(openapi::head()).nest("/api", described()).into_openapi();
    let api = Api { openapi: openapi::whole(doc), ..api };
    let private = Router::from(described())
        .fallback(problem::no_route)
        .method_not_allowed_fallback(problem::wrong_method)
        .layer(axum::middleware::from_fn_with_state(api.clone(), auth::require_token));
    let measured = Router::new()
        .route("/metrics", get(metrics::get))
        .layer(axum::middleware::from_fn_with_state(api.clone(), auth::require_token));
    Router::new()
        .nest("/api", private)
        .merge(measured)
        .route("/livez", get(health::livez))
        .route("/readyz", get(health::readyz))
        .route("/healthz", get(health::healthz))
        .fallback(problem::no_route)
        .method_not_allowed_fallback(problem::wrong_method)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(axum::middleware::from_fn_with_state(api.clone(), doors::require_known))
        .layer(CatchPanicLayer::custom(problem::panicked))
        .layer(axum::middleware::from_fn(request_id::name))
        .with_state(api)
}

/// What the document describes.
fn described() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(tokens::workspaces, tokens::create_workspace))
        .routes(routes!(tokens::list, tokens::create))
        .routes(routes!(tokens::revoke))
        .routes(routes!(projects::list, projects::create))
        .routes(routes!(sessions::list, sessions::create))
        .routes(routes!(sessions::get))
        .routes(routes!(sessions::close))
        .routes(routes!(stream::session))
        .routes(routes!(hints::all))
        .routes(routes!(messages::of_session))
        .routes(routes!(messages::of_task))
        .routes(routes!(messages::output))
        .routes(routes!(changes::list))
        .routes(routes!(changes::of_task))
        .routes(routes!(changes::apply))
        .routes(routes!(changes::reject))
        .routes(routes!(review::files))
        .routes(routes!(review::patch_of_session))
        .routes(routes!(review::patch_of_task))
        .routes(routes!(review::authors))
        .routes(routes!(checkpoints::list))
        .routes(routes!(checkpoints::restore))
        .routes(routes!(tasks::list, tasks::create))
        .routes(routes!(tasks::get))
        .routes(routes!(tasks::create_all))
        .routes(routes!(tasks::cancel))
        .routes(routes!(tasks::retry))
        .routes(routes!(stream::task))
        .routes(routes!(permissions::list))
        .routes(routes!(permissions::answer))
        .routes(routes!(permission_rules::list, permission_rules::create))
        .routes(routes!(permission_rules::delete))
        .routes(routes!(health::pool))
        .routes(routes!(usage::sum))
        .routes(routes!(agents::list))
        .routes(routes!(agents::get))
        .routes(routes!(openapi::get))
}
