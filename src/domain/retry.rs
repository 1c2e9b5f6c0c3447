//! When a failed task is tried again: 5 s · 2ⁿ with full jitter, at most 5 minutes, or one where the node is at fault.

use super::failure::FailureReason;
use std::time::Duration;

/// First step of the back-off.
pub const BACKOFF_BASE: Duration = Duration::from_secs(5);
/// Longest wait between two tries.
pub const BACKOFF_MAX: Duration = Duration::from_secs(300);
/// Longest wait after a failure of the node itself. `attempt` counts every interruption, and a head that met some must not
/// hold up its lane for minutes because of one start that failed: what fails for long is held off by the backend's circuit,
/// which closes after a minute.
pub const OWN_BACKOFF_MAX: Duration = Duration::from_secs(60);

/// What becomes of a task whose turn failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterFailure {
    /// It goes back to the head of its lane and waits.
    Retry {
        /// How long.
        wait: Duration,
    },
    /// It failed for good.
    GiveUp,
}

/// Decides by the reason alone. `failures` counts the charged ones, this one included if it is charged;
/// `attempt` is the attempt that just ended; `jitter` is a random number in 0..1.
pub fn after_failure(
    reason: FailureReason,
    failures: i32,
    failures_max: i32,
    attempt: i32,
    jitter: f64,
) -> AfterFailure {
    let what = reason.consequence();
    if !what.retry || (what.charged && failures >= failures_max) {
        return AfterFailure::GiveUp;
    }
    let wait = match reason {
        // The node's own end: another may take over at once.
        FailureReason::Drained | FailureReason::NodeLost => Duration::ZERO,
        FailureReason::SpawnFailed | FailureReason::DatabaseFailed => {
            backoff(attempt, jitter, OWN_BACKOFF_MAX)
        }
        FailureReason::RateLimited => backoff(attempt, jitter, BACKOFF_MAX),
        _ => backoff(failures, jitter, BACKOFF_MAX),
    };
    AfterFailure::Retry { wait }
}

fn backoff(n: i32, jitter: f64, max: Duration) -> Duration {
    let doublings = u32::try_from(n.saturating_sub(1)).unwrap_or(0).min(16);
    let full = BACKOFF_BASE.saturating_mul(1 << doublings).min(max);
    full.mul_f64(jitter.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uncharged_failures_never_use_up_a_task() {
        let after = after_failure(FailureReason::SpawnFailed, 2, 3, 900, 1.0);
        assert_eq!(after, AfterFailure::Retry { wait: OWN_BACKOFF_MAX });
        let after = after_failure(FailureReason::RateLimited, 2, 3, 900, 1.0);
        assert_eq!(after, AfterFailure::Retry { wait: BACKOFF_MAX });
    }

    #[test]
    fn the_third_charged_failure_is_the_last() {
        assert_eq!(after_failure(FailureReason::AgentCrashed, 3, 3, 3, 0.5), AfterFailure::GiveUp);
        let second = after_failure(FailureReason::AgentCrashed, 2, 3, 2, 1.0);
        assert_eq!(second, AfterFailure::Retry { wait: Duration::from_secs(10) });
    }

    #[test]
    fn what_may_not_be_tried_again_is_not() {
        assert_eq!(after_failure(FailureReason::BadRequest, 1, 3, 1, 0.5), AfterFailure::GiveUp);
    }
}
