//! A name for every request: in the log, in the answer's header, and in every problem, so that whoever reports one can be helped.

use super::problem;
use crate::domain::measure;
use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;
use std::time::Instant;
use tracing::Instrument;
use uuid::Uuid;

static HEADER: HeaderName = HeaderName::from_static("x-request-id");
/// A caller's own name for its request is kept up to here.
const GIVEN_BYTES_MAX: usize = 64;

/// Names the request, logs how it ended (route, status, milliseconds; no query, no body), and names it in the answer.
pub(super) async fn name(request: Request, next: Next) -> Response {
    let id = given(&request).unwrap_or_else(|| Uuid::now_v7().to_string());
    let route = request.extensions().get::<MatchedPath>().map_or("-", MatchedPath::as_str).to_owned();
    let method = request.method().clone();
    let span = tracing::info_span!("request", id, %method, route);
    let begun = Instant::now();
    let response = next.run(request).instrument(span.clone()).await;
    let status = response.status().as_u16();
    let labels = [("method", method.to_string()), ("route", route.clone()), ("status", status.to_string())];
    metrics::histogram!(measure::REQUEST_SECONDS, &labels).record(begun.elapsed().as_secs_f64());
    let ms = begun.elapsed().as_millis();
    // A refusal names its request: whoever is told of one finds it at the level that a newcomer has.
    span.in_scope(|| match status {
        400.. => tracing::info!(status, ms, "refused"),
        _ => tracing::debug!(status, ms, "answered"),
    });
    let mut response = problem::name_request(response, &id);
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(HEADER.clone(), value);
    }
    response
}

fn given(request: &Request) -> Option<String> {
    let given = request.headers().get(&HEADER)?.to_str().ok()?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    ((1..=GIVEN_BYTES_MAX).contains(&given.len()) && given.bytes().all(plain)).then(|| given.to_owned())
}
