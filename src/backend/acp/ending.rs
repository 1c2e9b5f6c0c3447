//! How a turn ended: from the agent's answer, its error or its words to an end or a reason. Pure. A stop reason alone is no
//! success, and an error may come as text.

use super::process::{CallError, describe};
use crate::backend::{BackendError, provider_words};
use crate::domain::failure::FailureReason;
use crate::domain::turn::TurnEnd;
use crate::domain::usage::Usage;
use agent_client_protocol::Error;
use serde_json::Value;
use std::time::{SystemTime, UNIX_EPOCH};

/// How an error that comes as an answer's text begins, in lower case. Real answers do not begin so.
const ERRORS_AS_TEXT: [&str; 15] = [
    "usage limit reached",
    "api error:",
    "api error (",
    "error: api error",
    "[api error",
    "claude ai usage limit reached",
    "you've hit your",
    "you have hit your",
    "you've reached your",
    "you have exhausted your",
    "credit balance is too low",
    "invalid api key",
    "prompt is too long",
    "please run /login",
    "failed to authenticate",
];

/// What the answer to a prompt means, given the whole answer's text where it is short.
pub(super) fn of_answer(
    answer: &Value,
    usage: Usage,
    short_text: Option<&str>,
) -> Result<TurnEnd, BackendError> {
    let stop_reason = answer.get("stopReason").and_then(Value::as_str).unwrap_or("none").to_owned();
    if let Some(text) = short_text.filter(|_| stop_reason != "cancelled") {
        let words = text.to_lowercase();
        if ERRORS_AS_TEXT.iter().any(|beginning| words.starts_with(beginning)) {
            return Err(failed(provider_words::status_in(&words), text.to_owned(), &words));
        }
    }
    match stop_reason.as_str() {
        "cancelled" => Ok(TurnEnd::Cancelled),
        "refusal" => Ok(TurnEnd::Refused),
        _ => Ok(TurnEnd::Completed { stop_reason, usage }),
    }
}

/// What a call that failed means for its turn.
pub(super) fn of_error(error: CallError) -> BackendError {
    match error {
        CallError::Lost(reason) => BackendError::Lost(reason),
        CallError::Late(_) => BackendError::Lost(format!("the agent gave {error}")),
        CallError::Refused(error) => of_refusal(&error),
    }
}

/// What an error of the agent means.
pub(super) fn of_refusal(error: &Error) -> BackendError {
    let message = describe(error);
    if i32::from(error.code) == -32000 {
        let message = format!("{message}: log in with the agent's own program, or give it a key in `env`");
        return BackendError::turn(FailureReason::AuthRequired, message);
    }
    let words =
        format!("{message} {}", error.data.as_ref().map(Value::to_string).unwrap_or_default()).to_lowercase();
    // Some answer with the provider's own status, from outside of the protocol's range.
    let own = u64::try_from(i32::from(error.code)).ok().filter(|code| (400..600).contains(code));
    let told = error.data.as_ref().and_then(|data| find_number(data, "http_status_code"));
    failed(told.or_else(|| provider_words::status_in(&words)).or(own), message, &words)
}

fn failed(status: Option<u64>, message: String, words: &str) -> BackendError {
    let reason = match provider_words::reason(status, words) {
        // What began as an error told as text and has no status: usage limits.
        FailureReason::ProviderError if words.contains("limit") && status.is_none() => {
            FailureReason::RateLimited
        }
        reason => reason,
    };
    let retry_after = provider_words::reset_in(words, now_secs());
    BackendError::Turn { reason, message, retry_after }
}

fn find_number(value: &Value, key: &str) -> Option<u64> {
    match value {
        Value::Object(fields) => fields
            .get(key)
            .and_then(Value::as_u64)
            .or_else(|| fields.values().find_map(|inner| find_number(inner, key))),
        Value::Array(items) => items.iter().find_map(|inner| find_number(inner, key)),
        _ => None,
    }
}

/// Tokens of the turn: in the answer's `usage`, or where some agents put them.
pub(super) fn usage_of(answer: &Value) -> Usage {
    let number = |paths: &[&str]| {
        let found = paths.iter().find_map(|path| answer.pointer(path).and_then(Value::as_i64));
        found.unwrap_or(0).max(0)
    };
    let cache_read = number(&["/usage/cachedReadTokens"]);
    Usage {
        input_tokens: number(&["/usage/inputTokens", "/_meta/quota/token_count/input_tokens"]),
        output_tokens: number(&["/usage/outputTokens", "/_meta/quota/token_count/output_tokens"]),
        reasoning_tokens: number(&["/usage/thoughtTokens"]),
        cache_read_tokens: cache_read,
        cache_write_tokens: number(&["/usage/cachedWriteTokens"]),
        cost_usd: 0.0,
    }
}

/// Seconds since 1970.
fn now_secs() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn errors_of_four_agents_have_their_reasons() {
        use FailureReason as R;
        let error = |code: i32, message: &str, data: Value| Error::new(code, message).data(data);
        let table = [
            (
                error(400, "{\"error\":{\"code\":400,\"message\":\"scripted failure\"}}", Value::Null),
                R::BadRequest,
            ),
            (error(500, "terminated", Value::Null), R::ProviderError),
            (
                error(
                    -32603,
                    "Internal error",
                    json!({"message": "exceeded retry limit",
                    "codex_error_info": {"response_too_many_failed_attempts": {"http_status_code": 429}}}),
                ),
                R::RateLimited,
            ),
            (
                error(
                    -32603,
                    "Internal error: API Error: 400 scripted failure 400",
                    json!({"errorKind": "unknown"}),
                ),
                R::BadRequest,
            ),
            (
                error(-32603, "Internal error: scripted failure 400", json!({"errorName": "APIError"})),
                R::BadRequest,
            ),
            (
                error(-32603, "Internal error", json!({"message": "stream disconnected before completion"})),
                R::ProviderError,
            ),
            (error(-32000, "Authentication required", Value::Null), R::AuthRequired),
        ];
        for (error, reason) in table {
            assert_eq!(of_refusal(&error).reason(), reason, "{error:?}");
        }
    }

    #[test]
    fn a_stop_reason_alone_is_no_success() {
        let answer = json!({"stopReason": "end_turn"});
        let end = |text| of_answer(&answer, Usage::default(), text).map_err(|error| error.reason());
        assert!(matches!(end(Some("fine")), Ok(TurnEnd::Completed { .. })));
        assert_eq!(end(Some("API Error: 429 too many requests")), Err(FailureReason::RateLimited));
        assert_eq!(end(Some("You've hit your weekly limit · resets 3pm")), Err(FailureReason::RateLimited));
        assert_eq!(end(Some("Credit balance is too low")), Err(FailureReason::ProviderError));
        assert_eq!(end(Some("Invalid API key · Please run /login")), Err(FailureReason::AuthRequired));
        assert!(matches!(
            end(Some("An API Error: 429 means too many requests")),
            Ok(TurnEnd::Completed { .. })
        ));
        let odd = json!({"stopReason": "something_new"});
        assert!(
            matches!(of_answer(&odd, Usage::default(), None), Ok(TurnEnd::Completed { stop_reason, .. }) if stop_reason == "something_new")
        );
    }

    #[test]
    fn tokens_are_read_where_agents_put_them() {
        let gemini = json!({"_meta": {"quota": {"token_count": {"input_tokens": 7, "output_tokens": 2}}}});
        assert_eq!((usage_of(&gemini).input_tokens, usage_of(&gemini).output_tokens), (7, 2));
        let claude = json!({"usage": {"inputTokens": 5, "outputTokens": 1, "cachedReadTokens": 3}});
        assert_eq!((usage_of(&claude).input_tokens, usage_of(&claude).cache_read_tokens), (5, 3));
    }
}
