//! One visit to the database: what the dispatcher asks of the other side at once, and what comes back. Decides nothing.

use super::super::executor::Ended;
use super::super::task_source::{Finish, SourceError, TaskSource, Tick, Wake, Want};
use crate::domain::ids::TaskId;
use crate::domain::permission::PermissionAnswer;
use crate::domain::task::Lease;
use crate::failpoint::failpoint;
use futures::future::BoxFuture;
use std::sync::Arc;

/// What a round was asked to do, and what came of it.
pub(super) struct RoundEnd {
    pub(super) finishes: Vec<Ended>,
    pub(super) errands: Errands,
    pub(super) answer: Result<RoundAnswer, SourceError>,
}

pub(super) struct RoundAnswer {
    pub(super) tick: Tick,
    pub(super) cancelled: Vec<TaskId>,
    pub(super) answers: Vec<(TaskId, PermissionAnswer)>,
}

/// What the next round has to look at besides finishing and claiming.
#[derive(Clone, Copy, Default)]
pub(super) struct Errands {
    pub(super) admit: bool,
    pub(super) cancels: bool,
    pub(super) answers: bool,
}

impl Errands {
    pub(super) const ALL: Self = Self { admit: true, cancels: true, answers: true };

    pub(super) fn of(wake: Wake) -> Self {
        match wake {
            Wake::Work => Self { admit: true, ..Self::default() },
            Wake::Cancel => Self { admit: true, cancels: true, answers: false },
            Wake::Answer => Self { answers: true, ..Self::default() },
            Wake::Everything => Self::ALL,
        }
    }

    pub(super) fn and(self, other: Self) -> Self {
        Self {
            admit: self.admit || other.admit,
            cancels: self.cancels || other.cancels,
            answers: self.answers || other.answers,
        }
    }

    pub(super) fn any(self) -> bool {
        self.admit || self.cancels || self.answers
    }
}

/// One visit to the database. Its future is never dropped half-way but with the dispatcher itself.
pub(super) async fn round(
    source: Arc<dyn TaskSource>,
    finishes: Vec<Ended>,
    errands: Errands,
    want: Want,
    running: Vec<Lease>,
) -> RoundEnd {
    let rows: Vec<Finish> = finishes.iter().filter_map(|ended| ended.finish.clone()).collect();
    let answer = visit(source.as_ref(), &rows, errands, &want, &running).await;
    RoundEnd { finishes, errands, answer }
}

async fn visit(
    source: &dyn TaskSource,
    finishes: &[Finish],
    errands: Errands,
    want: &Want,
    running: &[Lease],
) -> Result<RoundAnswer, SourceError> {
    if errands.admit
        && let Err(error) = source.admit().await
    {
        // Ends are written all the same; the next round admits again.
        tracing::warn!(%error, "nothing was admitted");
        if matches!(error, SourceError::Unavailable(_)) {
            return Err(error);
        }
    }
    let tick = source.tick(finishes, want).await?;
    if !finishes.is_empty() {
        failpoint("finished").await;
    }
    // From here on nothing may fail: the tick's leases must not be lost with an error of something else.
    let tasks: Vec<TaskId> = running.iter().map(|lease| lease.task).collect();
    let cancelled = if errands.cancels && !tasks.is_empty() {
        source.cancels_asked(&tasks).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "cancels were not read; the next renewal does");
            Vec::new()
        })
    } else {
        Vec::new()
    };
    let answers = if errands.answers && !running.is_empty() {
        source.take_answers(running).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "answers were not read; the next poll does");
            Vec::new()
        })
    } else {
        Vec::new()
    };
    Ok(RoundAnswer { tick, cancelled, answers })
}

/// The end of the round that is in flight; never, when none is.
pub(super) async fn in_flight(round: &mut Option<BoxFuture<'static, RoundEnd>>) -> RoundEnd {
    match round {
        Some(round) => round.await,
        None => std::future::pending().await,
    }
}
