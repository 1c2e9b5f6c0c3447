//! Every refusal and failure as JSON with a stable code and words that say what to do.

use super::node::LocalError;
use crate::store::StoreError;
use crate::wire::api::Problem;
use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};

/// An answer that is not what was asked for.
#[derive(Debug)]
pub(super) struct Refusal(Box<Problem>);

impl Refusal {
    pub(super) fn new(status: StatusCode, code: &str, detail: impl Into<String>) -> Self {
        Self(Box::new(Problem {
            kind: format!("urn:agentpool:problem:{code}"),
            title: status.canonical_reason().unwrap_or_default().to_owned(),
            status: status.as_u16(),
            code: code.to_owned(),
            detail: detail.into(),
            risk: Vec::new(),
            paths: Vec::new(),
            request_id: String::new(),
        }))
    }

    pub(super) fn invalid(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", detail)
    }

    pub(super) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", detail)
    }

    pub(super) fn conflict(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", detail)
    }

    /// The same, with what would be lost.
    pub(super) fn at_risk(mut self, risk: Vec<String>) -> Self {
        self.0.risk = risk;
        self
    }

    /// The same, with the files that it is about.
    pub(super) fn with_paths(mut self, paths: Vec<String>) -> Self {
        self.0.paths = paths;
        self
    }

    /// The same, said of one part of the request.
    pub(super) fn about(mut self, what: &str) -> Self {
        self.0.detail = format!("{what}: {}", self.0.detail);
        self
    }

    pub(super) fn internal(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(&*self.0)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response.extensions_mut().insert(*self.0);
        response
    }
}

/// The answer, with the request's name in it when it is a problem.
pub(super) fn name_request(mut response: Response, id: &str) -> Response {
    let Some(mut problem) = response.extensions_mut().remove::<Problem>() else { return response };
    problem.request_id = id.to_owned();
    let body = serde_json::to_vec(&problem).expect("a struct of strings is JSON");
    response.headers_mut().remove(header::CONTENT_LENGTH);
    *response.body_mut() = body.into();
    response
}

impl From<LocalError> for Refusal {
    fn from(error: LocalError) -> Self {
        match error {
            LocalError::Conflict(words) => Self::conflict(words),
            LocalError::Files { words, paths } => Self::conflict(words).with_paths(paths),
            LocalError::Store(error) => error.into(),
            LocalError::Failed(words) => Self::internal(words),
        }
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Refused { message, constraint } => refused(&message, constraint.as_deref()),
            StoreError::BadValue(error) => Self::invalid(format!(
                "a value cannot be stored ({}): change it and send the request again",
                error.as_db_error().map_or_else(|| error.to_string(), |db| db.message().to_owned())
            )),
            StoreError::Unavailable(_)
            | StoreError::Exhausted
            | StoreError::Pooler(_)
            | StoreError::NotAdmitted(_)
            | StoreError::Busy(_)
            | StoreError::ReadOnly(_) => {
                tracing::warn!(%error, "a request found the database away");
                Self::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "unavailable",
                    format!("{error}; try again in a moment"),
                )
            }
            StoreError::NotAllowed(_) | StoreError::Statement(_) => {
                tracing::error!(%error, "a request failed");
                Self::internal("the request failed; the service's log has the details")
            }
        }
    }
}

/// The words for what a constraint of the schema refuses.
fn refused(message: &str, constraint: Option<&str>) -> Refusal {
    match constraint {
        Some("tasks_session_id_fkey") => {
            Refusal::not_found("no such session: create one with POST /api/sessions")
        }
        Some("tasks_agent_fkey" | "permission_rules_agent_fkey") => {
            Refusal::not_found("no such agent: GET /api/agents lists those that tasks may name")
        }
        Some("sessions_project_id_fkey") => {
            Refusal::not_found("no such project: GET /api/projects lists them")
        }
        Some("tasks_prompt_not_empty") => Refusal::invalid("the prompt is empty"),
        Some("tasks_prompt_max_1_mib") => Refusal::invalid("the prompt is larger than 1 MiB"),
        Some("tasks_priority_check") => Refusal::invalid("priority must be between -100 and 100"),
        Some("tasks_run_at_in_range") => Refusal::invalid("run_at must be between the years 2000 and 9999"),
        Some("tasks_max_failures_check") => Refusal::invalid("max_failures must be between 1 and 100"),
        _ => Refusal::invalid(message),
    }
}

pub(super) async fn no_route() -> Refusal {
    Refusal::not_found("no such route")
}

pub(super) async fn wrong_method(method: Method) -> Refusal {
    let words = format!("this route takes no {method}: the README lists what it takes");
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", words)
}

/// How many rows a listing may give: 1 to 500.
pub(super) fn limit(asked: Option<i64>, default: i64) -> Result<i64, Refusal> {
    match asked.unwrap_or(default) {
        limit @ 1..=500 => Ok(limit),
        _ => Err(Refusal::invalid("limit must be between 1 and 500")),
    }
}

/// A defect in a handler: its own panic message is in the log, not in the answer.
pub(super) fn panicked(_: Box<dyn std::any::Any + Send>) -> Response {
    tracing::error!("a request panicked");
    Refusal::internal("the request failed; the service's log has the details").into_response()
}

/// `axum::Json` whose refusals are problems, and that takes an object alone: serde fills a struct from a list, too.
pub(super) struct Body<T>(pub(super) T);

impl<S: Send + Sync, T: serde::de::DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        let (parts, bytes) = whole(request).await?;
        let is_object = bytes.trim_ascii_start().starts_with(b"{");
        let Json(value) = Json::from_request(Request::from_parts(parts, bytes.into()), state).await?;
        if is_object {
            Ok(Self(value))
        } else {
            Err(Refusal::invalid("the body must be a JSON object, in braces"))
        }
    }
}

async fn whole(request: Request) -> Result<(Parts, Bytes), Refusal> {
    let (parts, body) = request.into_parts();
    let whole = Request::from_parts(parts.clone(), body);
    match Bytes::from_request(whole, &()).await {
        Ok(bytes) => Ok((parts, bytes)),
        Err(rejection) => Err(unreadable(rejection.status(), rejection.body_text())),
    }
}

/// As [`Body`], where nothing at all stands for the default. Whatever is there must be right: to take what was not understood
/// for nothing would leave out what somebody asked for.
pub(super) struct OptionalBody<T>(pub(super) T);

impl<S: Send + Sync, T: serde::de::DeserializeOwned + Default> FromRequest<S> for OptionalBody<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        let (parts, bytes) = whole(request).await?;
        if bytes.is_empty() {
            return Ok(Self(T::default()));
        }
        let Body(value) = Body::from_request(Request::from_parts(parts, bytes.into()), state).await?;
        Ok(Self(value))
    }
}

/// `axum::extract::Path` whose refusals are problems.
#[derive(FromRequestParts)]
#[from_request(via(axum::extract::Path), rejection(Refusal))]
pub(super) struct Id<T>(pub(super) T);

/// `axum::extract::Query` whose refusals are problems.
#[derive(FromRequestParts)]
#[from_request(via(axum::extract::Query), rejection(Refusal))]
pub(super) struct Params<T>(pub(super) T);

impl From<JsonRejection> for Refusal {
    fn from(rejection: JsonRejection) -> Self {
        unreadable(rejection.status(), rejection.body_text())
    }
}

fn unreadable(status: StatusCode, words: String) -> Refusal {
    let words = match status {
        StatusCode::PAYLOAD_TOO_LARGE => {
            "the request is larger than 2 MiB: a prompt may have 1 MiB".to_owned()
        }
        _ => words,
    };
    Refusal::new(status, "invalid", words)
}

impl From<PathRejection> for Refusal {
    fn from(_: PathRejection) -> Self {
        Self::not_found("the id in the path is no UUID")
    }
}

impl From<QueryRejection> for Refusal {
    fn from(rejection: QueryRejection) -> Self {
        Self::new(rejection.status(), "invalid", rejection.body_text())
    }
}
