//! `/api/openapi.json`: OpenAPI 3.1, made from the handlers. Adds to each operation the refusals that its shape brings with it.

use super::Api;
use crate::wire::api::Problem;
use axum::Json;
use axum::extract::State;
use std::sync::Arc;
use utoipa::openapi::path::{Operation, ParameterIn};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{ContentBuilder, OpenApi, Ref, RefOr, Response, ResponseBuilder};
use utoipa::{Modify, OpenApi as _, ToSchema};

/// What stands before the operations: of them all, the token.
#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "agentpool",
        description = "Keeps coding agents warm and feeds them from a Postgres queue. Every error is a problem (RFC 9457) with a \
                       stable `code`; every answer names its request in `X-Request-Id`."
    ),
    components(schemas(Problem)),
    security(("token" = [])),
    modifiers(&Token)
)]
pub(super) struct Head;

struct Token;

impl Modify for Token {
    fn modify(&self, doc: &mut OpenApi) {
        let mut token = Http::new(HttpAuthScheme::Bearer);
        token.description =
            Some("The data folder's file `token`, or one of `agentpool token create`".to_owned());
        doc.components.get_or_insert_default().add_security_scheme("token", SecurityScheme::Http(token));
    }
}

pub(super) fn head() -> OpenApi {
    Head::openapi()
}

/// A refusal that every handler with a certain shape may give.
const OF_ALL: [(&str, &str); 7] = [
    ("400", "The request could not be read"),
    ("403", "A page of another origin asks"),
    ("429", "Too many wrong tokens came from this address: try again after `Retry-After`"),
    ("421", "The Host header does not name this machine"),
    ("500", "A defect; the service's log has the details"),
    ("503", "The database is away or the node is busy: try again after `Retry-After`"),
    ("401", "No token, or one that is not known"),
];
const OF_PATHS: (&str, &str) = ("404", "There is no such thing");
const OF_INPUT: (&str, &str) = ("422", "A value is not allowed; `detail` says which and what is");
const OF_BODIES: [(&str, &str); 3] = [
    ("404", "Something that the body names does not exist"),
    ("413", "The body is too large"),
    ("415", "The body is not called JSON"),
];

/// The whole document, with the refusals that no handler spells out.
pub(super) fn whole(mut doc: OpenApi) -> Arc<str> {
    for item in doc.paths.paths.values_mut() {
        let operations = [&mut item.get, &mut item.post, &mut item.put, &mut item.patch, &mut item.delete];
        for operation in operations.into_iter().flatten() {
            name(operation);
            refusals(operation);
        }
    }
    Arc::from(doc.to_json().expect("a document of strings is JSON"))
}

/// `<tag>_<handler>`: handlers of different resources may be called alike.
fn name(operation: &mut Operation) {
    let tag = operation.tags.as_ref().and_then(|tags| tags.first()).map_or("", String::as_str);
    operation.operation_id = operation.operation_id.take().map(|handler| format!("{tag}_{handler}"));
}

fn refusals(operation: &mut Operation) {
    let parameters = operation.parameters.as_deref().unwrap_or_default();
    let has = |place: ParameterIn| parameters.iter().any(|parameter| parameter.parameter_in == place);
    let mut refusals = OF_ALL.to_vec();
    if has(ParameterIn::Path) {
        refusals.push(OF_PATHS);
    }
    if operation.request_body.is_some() {
        refusals.extend(OF_BODIES);
    }
    if operation.request_body.is_some() || has(ParameterIn::Query) || has(ParameterIn::Header) {
        refusals.push(OF_INPUT);
    }
    for (status, words) in refusals {
        let responses = &mut operation.responses.responses;
        responses.entry(status.to_owned()).or_insert_with(|| RefOr::T(problem(words)));
    }
}

fn problem(words: &str) -> Response {
    let schema = Ref::from_schema_name(Problem::name());
    let content = ContentBuilder::new().schema(Some(schema)).build();
    ResponseBuilder::new().description(words).content("application/problem+json", content).build()
}

/// This document.
#[utoipa::path(get, path = "/openapi.json", tag = "about", security(()),
    responses((status = 200, description = "OpenAPI 3.1", body = serde_json::Value)))]
pub(super) async fn get(State(api): State<Api>) -> Json<Box<serde_json::value::RawValue>> {
    let raw = serde_json::value::RawValue::from_string(api.openapi.to_string());
    Json(raw.expect("the document is JSON"))
}
