//! Ends that no executor has written: a turn given back unstarted, a turn that panicked.

use crate::dispatch::executor::Ended;
use crate::dispatch::leases::HeldLease;
use crate::dispatch::task_source::Finish;
use crate::domain::failure::FailureReason;
use crate::domain::task::{ClaimedTask, TaskStatus};
use std::time::Duration;

pub(super) fn give_back(held: HeldLease, task: &ClaimedTask) -> Ended {
    let failure = Some((FailureReason::Drained, "the node was told to stop".to_owned()));
    Ended { held, finish: Some(requeue(task, failure)) }
}

fn requeue(task: &ClaimedTask, failure: Option<(FailureReason, String)>) -> Finish {
    Finish {
        lease: task.lease,
        status: TaskStatus::Queued,
        wait: Duration::ZERO,
        failure,
        charged: false,
        conversation: None,
    }
}

pub(super) fn panicked(held: HeldLease, task: &ClaimedTask) -> Ended {
    let outcome = crate::dispatch::verdict::failed(
        FailureReason::Internal,
        "a defect of agentpool ended the turn; its log has the details",
    );
    let finish = crate::dispatch::verdict::finish(&outcome, task, rand::random());
    Ended { held, finish }
}
