//! From how a turn ended to what its rows will say: pure, total, no I/O.

use super::task_source::Finish;
use crate::backend::BackendError;
use crate::domain::agent::AgentName;
use crate::domain::failure::FailureReason;
use crate::domain::retry::{AfterFailure, after_failure};
use crate::domain::session::AgentSessionStatus;
use crate::domain::task::{ClaimedTask, TaskStatus};
use crate::domain::turn::{Stop, StopCause, TurnEnd};
use crate::domain::usage::Usage;
use crate::pool::PARKED_MAX;
use std::time::Duration;

/// How a turn ended, stops considered.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Outcome {
    /// Well.
    Completed { usage: Usage },
    /// As asked. The backend may have been lost with it.
    Cancelled { backend_lost: bool },
    /// Not well.
    Failed { reason: FailureReason, message: String, backend_lost: bool, retry_after: Option<Duration> },
    /// Another may hold the lane: write nothing.
    Abandoned,
}

/// What the agent said decides, unless we had stopped it; a completed turn is completed even when a cancel came too late.
pub(super) fn outcome(
    end: Result<TurnEnd, BackendError>,
    stop: Option<Stop>,
    said_anything: bool,
) -> Outcome {
    if stop.is_some_and(|stop| stop.cause == StopCause::LeaseLost) {
        return Outcome::Abandoned;
    }
    match (end, stop) {
        (Ok(TurnEnd::Completed { usage, .. }), _) if said_anything || !usage.is_zero() => {
            Outcome::Completed { usage }
        }
        (Ok(TurnEnd::Completed { .. }), None) => {
            failed(FailureReason::EmptyTurn, "the agent ended the turn without a word")
        }
        (Ok(TurnEnd::Refused), None) => failed(FailureReason::Refused, "the agent refused the task"),
        (Ok(TurnEnd::Cancelled), None) => {
            failed(FailureReason::Refused, "the agent cancelled the turn by itself")
        }
        (Err(error), None) => failed_by(&error),
        (end, Some(stop)) => {
            let backend_lost = end.as_ref().is_err_and(BackendError::lost_the_backend);
            stopped(stop.cause, backend_lost)
        }
    }
}

/// What a stop makes of a turn that had not completed.
pub(super) fn stopped(cause: StopCause, backend_lost: bool) -> Outcome {
    let (reason, message) = match cause {
        StopCause::UserCancel => return Outcome::Cancelled { backend_lost },
        StopCause::LeaseLost => return Outcome::Abandoned,
        StopCause::Timeout => (FailureReason::Timeout, "the turn took longer than the agent's turn limit"),
        StopCause::Stalled => {
            (FailureReason::Stalled, "nothing was heard of the agent for longer than its stall limit")
        }
        StopCause::Drain => (FailureReason::Drained, "the node was told to stop"),
    };
    Outcome::Failed { reason, message: message.to_owned(), backend_lost, retry_after: None }
}

/// A node that stood still has lost its agents by its own fault: their shims end them when they hear nothing of us.
pub(super) fn considering_a_standstill(outcome: Outcome, stood_still: bool) -> Outcome {
    match outcome {
        Outcome::Failed {
            reason: FailureReason::AgentCrashed | FailureReason::Stalled,
            message,
            backend_lost: true,
            ..
        } if stood_still => {
            let message = format!("the node stood still, and its agents were ended for it: {message}");
            let (reason, backend_lost) = (FailureReason::NodeLost, true);
            Outcome::Failed { reason, message, backend_lost, retry_after: None }
        }
        outcome => outcome,
    }
}

/// What the backend's error makes of a turn that nobody had stopped.
pub(super) fn failed_by(error: &BackendError) -> Outcome {
    Outcome::Failed {
        reason: error.reason(),
        backend_lost: error.lost_the_backend(),
        retry_after: error.retry_after(),
        message: error.to_string(),
    }
}

pub(super) fn failed(reason: FailureReason, message: impl Into<String>) -> Outcome {
    Outcome::Failed { reason, message: message.into(), backend_lost: false, retry_after: None }
}

/// The finish that an outcome asks for; `None` when nothing may be written. `jitter` is a random number in 0..1.
pub(super) fn finish(outcome: &Outcome, task: &ClaimedTask, jitter: f64) -> Option<Finish> {
    let plain = |status, backend_lost| Finish {
        lease: task.lease,
        status,
        wait: Duration::ZERO,
        failure: None,
        charged: false,
        conversation: Some(conversation(task.agent.clone(), backend_lost, None)),
    };
    match outcome {
        Outcome::Abandoned => None,
        Outcome::Completed { .. } => Some(plain(TaskStatus::Completed, false)),
        Outcome::Cancelled { backend_lost } => Some(plain(TaskStatus::Cancelled, *backend_lost)),
        Outcome::Failed { reason, message, backend_lost, retry_after } => {
            let charged = reason.consequence().charged;
            let failures = task.failures + i32::from(charged);
            let after = after_failure(*reason, failures, task.failures_max, task.attempt, jitter);
            let (status, wait) = match after {
                // The provider's word beats the back-off.
                AfterFailure::Retry { wait } => {
                    (TaskStatus::Queued, parked_for(*retry_after).unwrap_or(wait))
                }
                AfterFailure::GiveUp => (TaskStatus::Failed, Duration::ZERO),
            };
            let poison = reason.consequence().poisons.then_some(*reason);
            Some(Finish {
                lease: task.lease,
                status,
                wait,
                failure: Some((*reason, message.clone())),
                charged,
                conversation: Some(conversation(task.agent.clone(), *backend_lost, poison)),
            })
        }
    }
}

/// How long an outcome parks its agent, and its task with it.
pub(super) fn parks(outcome: &Outcome) -> Option<Duration> {
    match outcome {
        Outcome::Failed { retry_after, .. } => parked_for(*retry_after),
        Outcome::Completed { .. } | Outcome::Cancelled { .. } | Outcome::Abandoned => None,
    }
}

fn parked_for(retry_after: Option<Duration>) -> Option<Duration> {
    retry_after.map(|wait| wait.min(PARKED_MAX))
}

fn conversation(
    agent: AgentName,
    backend_lost: bool,
    poison: Option<FailureReason>,
) -> (AgentName, AgentSessionStatus, Option<FailureReason>) {
    let status = if backend_lost { AgentSessionStatus::Crashed } else { AgentSessionStatus::Idle };
    (agent, status, poison)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::turn::StopForce;

    fn stop(cause: StopCause) -> Option<Stop> {
        Some(Stop { cause, force: StopForce::Ask })
    }

    fn completed() -> Result<TurnEnd, BackendError> {
        let usage = Usage { input_tokens: 1, ..Usage::default() };
        Ok(TurnEnd::Completed { stop_reason: "stop".into(), usage })
    }

    #[test]
    fn a_completed_turn_is_completed_even_when_the_cancel_came_too_late() {
        assert!(matches!(outcome(completed(), stop(StopCause::UserCancel), true), Outcome::Completed { .. }));
    }

    #[test]
    fn a_lost_lease_writes_nothing_whatever_the_agent_says() {
        assert_eq!(outcome(completed(), stop(StopCause::LeaseLost), true), Outcome::Abandoned);
    }

    #[test]
    fn success_is_not_in_the_stop_reason_alone() {
        let empty = Ok(TurnEnd::Completed { stop_reason: "stop".into(), usage: Usage::default() });
        assert!(matches!(
            outcome(empty, None, false),
            Outcome::Failed { reason: FailureReason::EmptyTurn, .. }
        ));
    }

    #[test]
    fn an_error_after_a_cancel_is_the_cancel() {
        let error = Err(BackendError::turn(FailureReason::ProviderError, "aborted"));
        assert_eq!(
            outcome(error, stop(StopCause::UserCancel), true),
            Outcome::Cancelled { backend_lost: false }
        );
    }

    #[test]
    fn a_rate_limit_with_a_time_waits_until_then_uncharged_and_without_one_backs_off() {
        let limited = |retry_after| {
            let (reason, message) = (FailureReason::RateLimited, "slow".to_owned());
            outcome(Err(BackendError::Turn { reason, message, retry_after }), None, true)
        };
        let task = crate::dispatch::executor::tests::claimed(1, 2);
        let hour = Duration::from_secs(3600);
        for (retry_after, wait) in [(Some(hour), hour), (Some(Duration::MAX), PARKED_MAX)] {
            let outcome = limited(retry_after);
            let finish = finish(&outcome, &task, 0.5).expect("a finish");
            assert_eq!((finish.status, finish.charged, finish.wait), (TaskStatus::Queued, false, wait));
            assert_eq!(parks(&outcome), Some(wait));
        }
        assert!(finish(&limited(None), &task, 1.0).expect("a finish").wait <= Duration::from_secs(5));
        assert_eq!(parks(&limited(None)), None);
    }

    #[test]
    fn f06_an_agent_that_was_lost_because_the_node_stood_still_is_not_charged_to_the_task() {
        let lost = || outcome(Err(BackendError::Lost("it is gone".into())), None, true);
        let task = crate::dispatch::executor::tests::claimed(1, 0);
        for (stood_still, charged) in [(true, false), (false, true)] {
            let finish =
                finish(&considering_a_standstill(lost(), stood_still), &task, 0.5).expect("a finish");
            assert_eq!((finish.status, finish.charged), (TaskStatus::Queued, charged));
        }
    }

    #[test]
    fn a_drained_turn_goes_back_uncharged_and_at_once() {
        let lost = outcome(Ok(TurnEnd::Cancelled), stop(StopCause::Drain), true);
        let task = crate::dispatch::executor::tests::claimed(3, 2);
        let finish = finish(&lost, &task, 1.0).expect("a finish");
        assert_eq!((finish.status, finish.charged, finish.wait), (TaskStatus::Queued, false, Duration::ZERO));
    }
}
