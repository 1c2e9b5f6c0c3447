//! What providers say when they refuse, and agents for them: from words and HTTP status to a reason. Pure and total: what nobody
//! knows is the provider's failure.

use crate::domain::failure::FailureReason;
use std::time::Duration;

/// Longest time until a limit is lifted that is believed.
const RESET_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

/// The reason that a status and lower-case words give.
pub(super) fn reason(status: Option<u64>, words: &str) -> FailureReason {
    if overflows(words) {
        return FailureReason::ContextOverflow;
    }
    match status {
        Some(401 | 403) => FailureReason::AuthRequired,
        Some(429) => FailureReason::RateLimited,
        Some(404) if words.contains("model") => FailureReason::ModelUnknown,
        Some(408) => FailureReason::ProviderError,
        Some(413) => FailureReason::ContextOverflow,
        Some(400..=499) => FailureReason::BadRequest,
        Some(_) => FailureReason::ProviderError,
        None if words.contains("model not found") || words.contains("modelnotfound") => {
            FailureReason::ModelUnknown
        }
        None if is_rate_limit(words) => FailureReason::RateLimited,
        None if asks_for_login(words) => FailureReason::AuthRequired,
        None => FailureReason::ProviderError,
    }
}

/// The shapes in which providers, and agents for them, say that there were too many requests.
pub(super) fn is_rate_limit(words: &str) -> bool {
    const SHAPES: [&str; 7] =
        ["rate limit", "rate_limit", "rate-limit", "too many requests", "429", "quota", "usage limit"];
    SHAPES.iter().any(|shape| words.contains(shape))
}

/// The shapes in which providers say that a conversation is too long.
pub(super) fn overflows(words: &str) -> bool {
    const SHAPES: [&str; 8] = [
        "context_length_exceeded",
        "context length",
        "context window",
        "prompt is too long",
        "input is too long",
        "maximum context",
        "too many tokens",
        "exceeds the maximum number of tokens",
    ];
    SHAPES.iter().any(|shape| words.contains(shape))
}

/// The shapes in which agents say that nobody is logged in.
fn asks_for_login(words: &str) -> bool {
    const SHAPES: [&str; 8] = [
        "authentication_error",
        "authentication required",
        "auth_required",
        "invalid api key",
        "invalid_api_key",
        "please run /login",
        "not logged in",
        "unauthorized",
    ];
    SHAPES.iter().any(|shape| words.contains(shape))
}

/// The HTTP status that lower-case words name, when they name one as such: `api error: 429`, `status 503`, `"code":400`.
pub(super) fn status_in(words: &str) -> Option<u64> {
    const BEFORE: [&str; 7] =
        ["api error: ", "internal error: ", "status: ", "status ", "http ", "\"code\":", "failure "];
    BEFORE.iter().find_map(|before| {
        let rest = &words[words.find(before)? + before.len()..];
        let rest = rest.trim_start_matches(['"', ' ']);
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().ok().filter(|status| (400..600).contains(status))
    })
}

/// After how long a limit is lifted, when lower-case words say so: `try again in 20 s`, `retry after 5 minutes`, `resets at
/// 1795206374` (seconds since 1970), `reset_time: 2026-11-26T10:00:00Z`. `now` in seconds since 1970.
pub(super) fn reset_in(words: &str, now: u64) -> Option<Duration> {
    const FROM_NOW: [&str; 6] =
        ["try again in ", "retry after ", "retry-after: ", "retry_after\":", "retryafter\":", "resets in "];
    const AT: [&str; 5] = ["resets at ", "reset at ", "reset_time: ", "resets_at\":", "limit reached|"];
    let behind = |before: &&str| {
        words.find(*before).map(|at| words[at + before.len()..].trim_start_matches(['"', ' ']))
    };
    let from_now = FROM_NOW.iter().find_map(|before| duration(behind(before)?));
    let at =
        || AT.iter().find_map(|before| instant(behind(before)?)?.checked_sub(now)).map(Duration::from_secs);
    from_now.or_else(at).filter(|wait| !wait.is_zero() && *wait <= RESET_MAX)
}

fn duration(text: &str) -> Option<Duration> {
    let number: String = text.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
    let unit = text[number.len()..].trim_start();
    let number: f64 = number.trim_end_matches('.').parse().ok()?;
    let secs = match unit {
        unit if unit.starts_with("ms") => number / 1000.0,
        unit if unit.starts_with('m') => number * 60.0,
        unit if unit.starts_with('h') => number * 3600.0,
        unit if unit.starts_with('d') => number * 86400.0,
        _ => number,
    };
    Duration::try_from_secs_f64(secs).ok()
}

fn instant(text: &str) -> Option<u64> {
    let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
    if digits.len() >= 10 {
        return digits[..10].parse().ok();
    }
    let end = text.find(['"', ' ', ',', '}']).unwrap_or(text.len());
    let at = chrono::DateTime::parse_from_rfc3339(&text[..end].to_ascii_uppercase()).ok()?;
    u64::try_from(at.timestamp()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_a_reset_is_read_as_providers_write_it() {
        let now = 1_795_206_000;
        let table = [
            ("please try again in 20s.", Some(20)),
            ("retry after 5 minutes", Some(300)),
            ("try again in 1.5 h", Some(5400)),
            ("usage limit reached|1795206374", Some(374)),
            ("{\"resets_at\":1795206010}", Some(10)),
            ("your limit resets at 2026-11-20t20:25:00z", Some(300)),
            ("resets at 3pm", None),
            ("retry after lunch", None),
            ("resets at 1", None),
            ("try again in 9999999999 h", None),
        ];
        for (words, secs) in table {
            assert_eq!(reset_in(words, now), secs.map(Duration::from_secs), "{words}");
        }
    }

    #[test]
    fn a_status_is_one_only_where_it_is_named_so() {
        assert_eq!(status_in("internal error: api error: 400 scripted failure"), Some(400));
        assert_eq!(status_in("exceeded retry limit, last status: 429 too many requests"), Some(429));
        assert_eq!(status_in("{\"error\":{\"code\":503}}"), Some(503));
        assert_eq!(status_in("it took 429 ms"), None);
        assert_eq!(reason(None, "invalid api key · please run /login"), FailureReason::AuthRequired);
        assert_eq!(reason(Some(400), "prompt is too long: 9 tokens"), FailureReason::ContextOverflow);
        assert_eq!(reason(None, "boom"), FailureReason::ProviderError);
    }
}
