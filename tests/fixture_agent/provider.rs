//! What providers of models say when they refuse, as agents pass it on: in the data of an error, or as text.

use agent_client_protocol::Error;
use serde_json::{Value, json};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// `what` of `FAIL:` and `TEXT_ERROR:`, its time of reset apart.
fn parts(what: &str) -> (&str, Option<u64>) {
    match what.split_once('@') {
        Some((what, secs)) => (what, secs.parse().ok()),
        None => (what, None),
    }
}

/// The error that an agent answers.
pub fn error(what: &str) -> Error {
    let (kind, reset) = parts(what);
    if kind == "auth" {
        return Error::new(-32000, "Authentication required");
    }
    Error::new(-32603, "Internal error").data(data(kind, reset))
}

fn data(kind: &str, reset: Option<u64>) -> Value {
    let message = words(kind, reset);
    match (kind, reset) {
        ("429", Some(secs)) => json!({"message": message, "retry_after": secs}),
        ("429", None) => json!({
            "message": message,
            "codex_error_info": {"response_too_many_failed_attempts": {"http_status_code": 429}},
        }),
        _ => json!({"message": message}),
    }
}

/// The same as a turn's text.
pub fn text(what: &str) -> String {
    let (kind, reset) = parts(what);
    match kind {
        "usage" => words(kind, reset),
        "auth" => "Invalid API key · Please run /login".to_owned(),
        _ => format!("API Error: {}", words(kind, reset)),
    }
}

fn words(kind: &str, reset: Option<u64>) -> String {
    match (kind, reset) {
        ("429", Some(secs)) => {
            format!("429 Too Many Requests: rate limit reached, please try again in {secs}s.")
        }
        ("429", None) => "exceeded retry limit, last status: 429 Too Many Requests".to_owned(),
        ("usage", secs) => format!("usage limit reached|{}", epoch_in(secs.unwrap_or(60))),
        ("401", _) => {
            r#"401 {"type":"error","error":{"type":"authentication_error","message":"invalid x-api-key"}}"#
                .to_owned()
        }
        ("400", _) => {
            r#"400 {"type":"error","error":{"type":"invalid_request_error","message":"messages: invalid"}}"#
                .to_owned()
        }
        ("500", _) => {
            r#"500 {"type":"error","error":{"type":"api_error","message":"Internal server error"}}"#
                .to_owned()
        }
        ("overflow", _) => "prompt is too long: 210000 tokens > 200000 maximum".to_owned(),
        ("model", _) => "404 model not found: no-such-model".to_owned(),
        (other, _) => format!("scripted failure {other}"),
    }
}

fn epoch_in(secs: u64) -> u64 {
    let at = SystemTime::now() + Duration::from_secs(secs);
    at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
