//! What an error of opencode means for the task. Pure and total: what nobody knows is the provider's.

use super::patience::Patience;
use super::wire::{AgentError, Status};
use crate::backend::{BackendError, provider_words};
use crate::domain::failure::FailureReason;
use crate::domain::text;
use serde_json::Value;
use std::time::Duration;

/// Longest error text that is handed on, in bytes: some carry a whole response body or stack.
const MESSAGE_BYTES_MAX: usize = 2000;

/// The name under which opencode reports that somebody called abort.
pub(super) fn is_abort(error: &AgentError) -> bool {
    error.name == "MessageAbortedError"
}

/// The error of a turn, in our words and theirs.
pub(super) fn of_turn(error: &AgentError) -> BackendError {
    BackendError::Turn { reason: reason(error), message: message(error), retry_after: retry_after(error) }
}

/// Which reason an error is.
pub(super) fn reason(error: &AgentError) -> FailureReason {
    let words = format!("{} {}", error.name, message(error)).to_ascii_lowercase();
    let status = error.data.get("statusCode").and_then(Value::as_u64);
    match error.name.as_str() {
        "ProviderAuthError" => return FailureReason::AuthRequired,
        "ContextOverflowError" => return FailureReason::ContextOverflow,
        "ProviderModelNotFoundError" => return FailureReason::ModelUnknown,
        "ContentFilterError" => return FailureReason::Refused,
        _ => {}
    }
    provider_words::reason(status, &words)
}

/// The provider's `Retry-After`, which opencode hands on with its other headers. A date is passed over: providers of models
/// were only seen to send numbers.
fn retry_after(error: &AgentError) -> Option<Duration> {
    let headers = error.data.get("responseHeaders")?.as_object()?;
    let number = |wanted: &str| {
        let (_, value) = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted))?;
        value.as_str()?.trim().parse::<f64>().ok()
    };
    let secs = number("retry-after-ms").map(|ms| ms / 1000.0).or_else(|| number("retry-after"))?;
    Duration::try_from_secs_f64(secs).ok()
}

/// A provider that is not waited for any longer within a turn.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ProviderGone {
    reason: FailureReason,
    message: String,
    retry_after: Option<Duration>,
}

impl From<ProviderGone> for BackendError {
    fn from(gone: ProviderGone) -> Self {
        Self::Turn { reason: gone.reason, message: gone.message, retry_after: gone.retry_after }
    }
}

/// Whether a provider has failed too often in a row, or asks for too long a wait.
pub(super) fn provider_gone(retry: &Status, patience: &Patience, now_ms: u64) -> Option<ProviderGone> {
    let said = text::cut_between_words(text::clean(retry.message.clone()), MESSAGE_BYTES_MAX);
    let wait = Duration::from_millis(retry.next.saturating_sub(now_ms));
    if wait > patience.provider_wait_max {
        let message = format!("the provider is to be asked again in {} s only: {said}", wait.as_secs());
        return Some(ProviderGone { reason: FailureReason::RateLimited, message, retry_after: Some(wait) });
    }
    if retry.attempt < patience.provider_tries_max {
        return None;
    }
    let message = format!("the provider failed {} times in a row, the last time with: {said}", retry.attempt);
    let words = retry.message.to_ascii_lowercase();
    let reason = match () {
        () if provider_words::is_rate_limit(&words) => FailureReason::RateLimited,
        () => FailureReason::ProviderError,
    };
    // Its next try is opencode's own back-off, and no word of the provider.
    Some(ProviderGone { reason, message, retry_after: None })
}

/// The text for people: opencode's message, its first line where it is a stack.
pub(super) fn message(error: &AgentError) -> String {
    let said = error.data.get("message").and_then(Value::as_str).unwrap_or_default();
    let said = said.split("\n    at ").next().unwrap_or_default().trim();
    let said = match (said.is_empty(), error.name.is_empty()) {
        (false, _) => said,
        (true, false) => &error.name,
        (true, true) => "opencode reported an error without a message",
    };
    text::cut_between_words(text::clean(said.to_owned()), MESSAGE_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn error(name: &str, data: Value) -> AgentError {
        AgentError { name: name.into(), data }
    }

    #[test]
    fn the_time_of_a_rate_limits_end_is_the_providers_own() {
        let limited = |headers: Value| {
            let data = json!({"message": "slow", "statusCode": 429, "responseHeaders": headers});
            of_turn(&error("APIError", data)).retry_after()
        };
        assert_eq!(limited(json!({"Retry-After": "20"})), Some(Duration::from_secs(20)));
        let both = json!({"retry-after": "20", "retry-after-ms": "1500"});
        assert_eq!(limited(both), Some(Duration::from_millis(1500)));
        for nonsense in [json!({}), json!({"retry-after": "-1"}), json!({"retry-after": "soon"}), Value::Null]
        {
            assert_eq!(limited(nonsense), None);
        }
        let busy = json!({"statusCode": 503, "responseHeaders": {"retry-after": "20"}});
        assert_eq!(of_turn(&error("APIError", busy)).retry_after(), None, "only a rate limit parks an agent");
    }

    #[test]
    fn a_provider_is_waited_for_a_while_and_its_reason_is_kept() {
        let patience = Patience { provider_tries_max: 3, ..Patience::default() };
        let gone = |attempt, message: &str, next| {
            let retry = Status { kind: "retry".into(), attempt, message: message.into(), next };
            provider_gone(&retry, &patience, 1_000).map(|gone| gone.reason)
        };
        assert_eq!(gone(2, "Too Many Requests", 30_000), None);
        assert_eq!(gone(3, "Too Many Requests", 30_000), Some(FailureReason::RateLimited));
        assert_eq!(gone(3, "scripted failure 429", 0), Some(FailureReason::RateLimited));
        assert_eq!(gone(3, "Connection reset by server", 0), Some(FailureReason::ProviderError));
        assert_eq!(gone(1, "come back at noon", 3_600_000), Some(FailureReason::RateLimited));
    }

    #[test]
    fn every_shape_of_failure_has_its_reason() {
        use FailureReason as R;
        let table = [
            (error("APIError", json!({"message": "no", "statusCode": 401})), R::AuthRequired),
            (error("APIError", json!({"message": "no", "statusCode": 403})), R::AuthRequired),
            (error("ProviderAuthError", json!({"message": "login"})), R::AuthRequired),
            (error("APIError", json!({"message": "slow", "statusCode": 429})), R::RateLimited),
            (error("APIError", json!({"message": "bad", "statusCode": 400})), R::BadRequest),
            (
                error(
                    "APIError",
                    json!({"message": "This model's maximum context length is 8192", "statusCode": 400}),
                ),
                R::ContextOverflow,
            ),
            (error("ContextOverflowError", json!({"message": "x"})), R::ContextOverflow),
            (error("APIError", json!({"message": "oops", "statusCode": 503})), R::ProviderError),
            (error("APIError", json!({"message": "Cannot connect to API"})), R::ProviderError),
            (
                error("UnknownError", json!({"message": "Model not found: a/b. Did you mean: c?"})),
                R::ModelUnknown,
            ),
            (error("MessageOutputLengthError", json!({})), R::ProviderError),
            (error("ContentFilterError", json!({"message": "no"})), R::Refused),
            (error("", Value::Null), R::ProviderError),
        ];
        for (error, expected) in table {
            assert_eq!(reason(&error), expected, "{error:?}");
        }
    }

    #[test]
    fn a_stack_is_cut_to_its_first_line() {
        let error = error("UnknownError", json!({"message": "Boom\n    at f (/x.js:1)"}));
        assert_eq!(message(&error), "Boom");
        assert_eq!(message(&AgentError::default()), "opencode reported an error without a message");
    }
}
