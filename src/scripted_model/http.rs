//! The server: takes requests, logs them, plays what the script says in real time. Decides nothing about what is said.

use super::conversation::{Conversation, Turn};
use super::directives::{self, Failure, Script};
use super::log::{Log, LoggedMessage, LoggedRequest, Outcome};
use super::wire::{Answer, Frame};
use crate::domain::text::cut;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, OriginalUri, Query, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Largest request that is read: a conversation with tool results in it.
const BODY_BYTES_MAX: usize = 64 << 20;
/// Longest text of one message that the log keeps, in bytes.
const LOGGED_MESSAGE_BYTES_MAX: usize = 64 << 10;
/// Longest directive that the log keeps, in bytes.
const LOGGED_DIRECTIVE_BYTES_MAX: usize = 1 << 10;

/// How OpenAI says it; agents know it by these words.
const TOO_LONG: &str = "This model's maximum context length is 8192 tokens. However, your messages resulted in more. \
                        Please reduce the length of the messages.";

#[derive(Clone)]
struct Context {
    log: Arc<Log>,
    stopping: CancellationToken,
}

/// The server's routes; answers under way end when `stopping` is cancelled.
pub(super) fn router(log: Arc<Log>, stopping: CancellationToken) -> Router {
    Router::new()
        .route("/v1/chat/completions", post(complete))
        .route("/v1/models", get(models))
        .route("/__log", get(logged))
        .route("/__last", get(last))
        .route("/__reset", post(reset))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(Context { log, stopping })
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

async fn models() -> Json<Value> {
    let model = json!({"id": "scripted-1", "object": "model", "created": 1, "owned_by": "scripted"});
    Json(json!({"object": "list", "data": [model]}))
}

async fn complete(State(context): State<Context>, uri: OriginalUri, body: Bytes) -> Response {
    let Ok(request) = serde_json::from_slice(&body) else {
        return error(StatusCode::BAD_REQUEST, "the body is no JSON");
    };
    let conversation = Conversation::parse(&request);
    let script = directives::script(&conversation);
    let failure = script.failure.filter(|failure| lasts(&context.log, failure, &script.directive));
    let status = failure.and_then(|failure| StatusCode::from_u16(failure.status).ok());
    let entry = entry(uri.path(), &conversation, &script, status.unwrap_or(StatusCode::OK));
    let settle = Settle { n: context.log.add(entry), log: context.log, outcome: Outcome::CutOff };
    if let Some(status) = status {
        settle.to(Outcome::Finished);
        if failure.is_some_and(|failure| failure.too_long) {
            return error(status, TOO_LONG);
        }
        return error(status, &format!("scripted failure {}", status.as_u16()));
    }
    // A rough count, as good as any: four bytes a token.
    let answer = Answer {
        id: format!("chatcmpl-{}", settle.n),
        model: conversation.model,
        input_tokens: (body.len() / 4).max(1),
    };
    if conversation.stream {
        play(answer.frames(script.steps), "text/event-stream", settle, context.stopping)
    } else {
        play(answer.whole(script.steps), "application/json", settle, context.stopping)
    }
}

fn lasts(log: &Log, failure: &Failure, directive: &str) -> bool {
    let tries = log.count_try(directive);
    failure.tries.is_none_or(|failing| tries <= failing)
}

fn entry(path: &str, conversation: &Conversation, script: &Script, status: StatusCode) -> LoggedRequest {
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
        status: status.as_u16(),
        outcome: Outcome::Running,
    }
}

fn error(status: StatusCode, message: &str) -> Response {
    let kind = match status.as_u16() {
        401 => "authentication_error",
        429 => "rate_limit_error",
        529 => "overloaded_error",
        _ => "api_error",
    };
    let body = json!({"error": {"type": kind, "message": message, "code": status.as_u16().to_string()}});
    let mut response = (status, Json(body)).into_response();
    if status == StatusCode::TOO_MANY_REQUESTS {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

/// Says how an answer went, also when the client leaves and the answer is dropped.
struct Settle {
    n: u64,
    log: Arc<Log>,
    outcome: Outcome,
}

impl Settle {
    fn to(mut self, outcome: Outcome) {
        self.outcome = outcome;
    }
}

impl Drop for Settle {
    fn drop(&mut self) {
        self.log.settle(self.n, self.outcome);
    }
}

/// Plays frames in real time. An error in a body makes the server cut the connection, so that a client never takes
/// an answer that was stopped for a whole one.
fn play(
    frames: VecDeque<Frame>,
    kind: &'static str,
    settle: Settle,
    stopping: CancellationToken,
) -> Response {
    let state = (frames, Some(settle), stopping);
    let frames = futures::stream::unfold(state, async |(mut frames, mut settle, stopping)| {
        let outcome = loop {
            let wait = match frames.pop_front() {
                Some(Frame::Bytes(bytes)) => {
                    return Some((Ok(Bytes::from(bytes)), (frames, settle, stopping)));
                }
                Some(Frame::Pause(pause)) => pause,
                Some(Frame::Hang) => Duration::MAX,
                Some(Frame::Drop) => break Outcome::Dropped,
                None => {
                    settle.take()?.to(Outcome::Finished);
                    return None;
                }
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = stopping.cancelled() => break Outcome::CutOff,
            }
        };
        settle.take()?.to(outcome);
        frames.clear();
        Some((Err(io::Error::from(io::ErrorKind::ConnectionReset)), (frames, None, stopping)))
    });
    let headers = [(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-cache")];
    (headers, Body::from_stream(frames)).into_response()
}
