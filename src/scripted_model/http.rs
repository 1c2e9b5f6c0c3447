//! The server: takes requests in any dialect, logs them, has their answers played. Decides nothing about what is said.

use super::conversation::{Conversation, Turn};
use super::dialect::{Answer, Dialect, Refusal};
use super::directives::{self, Failure, Script};
use super::log::{Log, LoggedMessage, LoggedRequest, Outcome};
use super::play::{Settle, play};
use crate::domain::text::cut;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, OriginalUri, Path, Query, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio_util::sync::CancellationToken;

/// Largest request that is read: a conversation with tool results in it.
const BODY_BYTES_MAX: usize = 64 << 20;
/// Longest text of one message that the log keeps, in bytes.
const LOGGED_MESSAGE_BYTES_MAX: usize = 64 << 10;
/// Longest directive that the log keeps, in bytes.
const LOGGED_DIRECTIVE_BYTES_MAX: usize = 1 << 10;

const EVENTS: &str = "text/event-stream";

#[derive(Clone)]
struct Context {
    log: Arc<Log>,
    stopping: CancellationToken,
    /// Tells the answers of this server from those of earlier ones.
    stamp: u64,
}

/// The server's routes; answers under way end when `stopping` is cancelled.
pub(super) fn router(log: Arc<Log>, stopping: CancellationToken) -> Router {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let stamp = u64::try_from(since.as_micros()).unwrap_or_default();
    Router::new()
        .route("/", get(alive))
        .route("/v1/chat/completions", post(chat))
        .route("/v1/responses", post(responses))
        .route("/v1/messages", post(messages))
        .route("/v1/messages/count_tokens", post(count_for_messages))
        .route("/v1beta/models/{call}", post(gemini))
        .route("/v1beta/models", get(gemini_models))
        .route("/v1/models", get(models))
        .route("/__log", get(logged))
        .route("/__last", get(last))
        .route("/__reset", post(reset))
        .fallback(unknown)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(Context { log, stopping, stamp })
}

#[derive(Deserialize)]
struct Since {
    #[serde(default)]
    since: u64,
}

async fn logged(State(context): State<Context>, Query(query): Query<Since>) -> Json<Vec<LoggedRequest>> {
    Json(context.log.since(query.since))
}

async fn last(State(context): State<Context>) -> Json<u64> {
    Json(context.log.last())
}

async fn reset(State(context): State<Context>) -> Json<Value> {
    context.log.reset();
    Json(json!({}))
}

/// Some agents ask whether anybody is there.
async fn alive() -> &'static str {
    "the scripted model"
}

async fn unknown(method: Method, uri: OriginalUri) -> Response {
    tracing::warn!(%method, path = uri.path(), "the scripted model was asked for what it does not have");
    let message = format!("there is no {}", uri.path());
    error(Dialect::Chat, Refusal { status: 404, message: &message, too_long: false })
}

/// For `OpenAI` and Anthropic at once: their clients overlook what they do not know.
async fn models() -> Json<Value> {
    let model = json!({
        "id": "scripted-1", "type": "model", "object": "model", "owned_by": "scripted", "created": 1,
        "display_name": "Scripted 1", "created_at": "2026-01-01T00:00:00Z",
    });
    Json(json!({"object": "list", "has_more": false, "data": [model]}))
}

async fn gemini_models() -> Json<Value> {
    let methods = ["generateContent", "countTokens"];
    Json(json!({"models": [{"name": "models/scripted-1", "supportedGenerationMethods": methods}]}))
}

async fn count_for_messages(body: Bytes) -> Json<Value> {
    Json(json!({"input_tokens": tokens(&body)}))
}

async fn chat(State(context): State<Context>, uri: OriginalUri, body: Bytes) -> Response {
    complete(Dialect::Chat, &context, uri.path(), &body, |_| ())
}

async fn responses(State(context): State<Context>, uri: OriginalUri, body: Bytes) -> Response {
    complete(Dialect::Responses, &context, uri.path(), &body, |_| ())
}

async fn messages(State(context): State<Context>, uri: OriginalUri, body: Bytes) -> Response {
    complete(Dialect::Messages, &context, uri.path(), &body, |_| ())
}

/// `MODEL:VERB`.
async fn gemini(
    State(context): State<Context>,
    Path(call): Path<String>,
    uri: OriginalUri,
    body: Bytes,
) -> Response {
    let (model, verb) = call.rsplit_once(':').unwrap_or((&call, ""));
    let stream = match verb {
        "countTokens" => return Json(json!({"totalTokens": tokens(&body)})).into_response(),
        "generateContent" => false,
        "streamGenerateContent" => true,
        _ => {
            let message = format!("there is no method {verb:?}");
            return error(Dialect::Gemini, Refusal { status: 404, message: &message, too_long: false });
        }
    };
    complete(Dialect::Gemini, &context, uri.path(), &body, |conversation| {
        model.clone_into(&mut conversation.model);
        conversation.stream = stream;
    })
}

/// A rough count, as good as any: four bytes a token.
fn tokens(body: &Bytes) -> usize {
    (body.len() / 4).max(1)
}

/// Answers one request; `complement` adds what a dialect says outside of the body.
fn complete(
    dialect: Dialect,
    context: &Context,
    path: &str,
    body: &Bytes,
    complement: impl FnOnce(&mut Conversation),
) -> Response {
    let Ok(request) = serde_json::from_slice(body) else {
        let message = "the body is no JSON";
        return error(dialect, Refusal { status: 400, message, too_long: false });
    };
    let mut conversation = dialect.conversation(&request);
    complement(&mut conversation);
    let script = directives::script(&conversation);
    let log = Arc::clone(&context.log);
    let failure = script.failure.filter(|failure| lasts(&log, failure, &script.directive));
    let mut entry = entry(path, &conversation, &script);
    let message = failure.map(|failure| match failure.too_long {
        true => dialect.too_long().to_owned(),
        false => format!("scripted failure {}", failure.status),
    });
    let refusal = failure.zip(message.as_deref()).map(|(failure, message)| Refusal {
        status: failure.status,
        message,
        too_long: failure.too_long,
    });
    let in_stream = |refusal: &Refusal<'_>| conversation.stream && dialect.refuses_in_stream(*refusal);
    let (told, refused) = (refusal.filter(in_stream), refusal.filter(|refusal| !in_stream(refusal)));
    entry.status = refused.map_or(200, |refusal| refusal.status);
    let n = log.add(entry);
    let settle = Settle::new(n, log);
    if let Some(refusal) = refused {
        settle.to(Outcome::Finished);
        return error(dialect, refusal);
    }
    let answer = Answer {
        id: format!("{:x}-{}", context.stamp, n),
        model: conversation.model,
        input_tokens: tokens(body),
    };
    let (frames, kind) = match told {
        Some(refusal) => (Dialect::refusal_frames(&answer, refusal), EVENTS),
        None if conversation.stream => (dialect.frames(&answer, script.steps), EVENTS),
        None => (dialect.whole(&answer, script.steps), "application/json"),
    };
    play(frames, kind, settle, context.stopping.clone())
}

fn lasts(log: &Log, failure: &Failure, directive: &str) -> bool {
    let tries = log.count_try(directive);
    failure.tries.is_none_or(|failing| tries <= failing)
}

fn entry(path: &str, conversation: &Conversation, script: &Script) -> LoggedRequest {
    let message = |turn: &Turn| LoggedMessage {
        role: turn.role.as_str().to_owned(),
        text: cut(turn.text.clone(), LOGGED_MESSAGE_BYTES_MAX),
    };
    LoggedRequest {
        n: 0,
        path: path.to_owned(),
        model: conversation.model.clone(),
        stream: conversation.stream,
        side: script.side,
        directive: cut(script.directive.clone(), LOGGED_DIRECTIVE_BYTES_MAX),
        user_turns: conversation.user_turns(conversation.turns.len()),
        messages: conversation.turns.iter().map(message).collect(),
        tools: conversation.tools.keys().cloned().collect(),
        status: 200,
        outcome: Outcome::Running,
    }
}

fn error(dialect: Dialect, refusal: Refusal<'_>) -> Response {
    let status = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = (status, Json(dialect.error(refusal))).into_response();
    if status == StatusCode::TOO_MANY_REQUESTS {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}
