//! Everything after the prompt: the checkpoint, the changes with who did them, the result, the end of the turn's log, and
//! the slot given back warm or cold.

use super::prepare::Ready;
use super::prompting::Said;
use super::{Turn, TurnFailure};
use crate::dispatch::event_writer::{TurnLog, WriteEnded};
use crate::dispatch::task_source::{Finish, LoggedEvent, SourceError, TurnResult};
use crate::dispatch::verdict::{self, Outcome};
use crate::domain::change::FileChange;
use crate::domain::failure::FailureReason;
use crate::domain::text;
use crate::domain::turn::TurnEvent;
use crate::failpoint::failpoint;
use crate::worktree::Checkpoint;
use std::time::Duration;

/// Checkpoints of a session that stay, besides its base and young interrupted ones.
const CHECKPOINTS_KEPT: usize = 20;

impl Turn<'_> {
    /// The outcome after everything is stored; it can only get worse.
    pub(super) async fn wrap_up(&self, mut ready: Ready, outcome: Outcome, said: Said) -> Outcome {
        failpoint("agent_ended").await;
        self.keep_or_drop_the_conversation(&mut ready, &outcome).await;
        let Some(finish) = verdict::finish(&outcome, self.task, 0.0) else {
            return outcome;
        };
        let Said { mut log, usage: told, model } = said;
        let (checkpoint, changes) = if finish.status.is_final() {
            match self.changes(&ready).await {
                Ok((after, changes)) => {
                    for notice in after.notices {
                        log.write(LoggedEvent::Agent(TurnEvent::Notice(text::clean(notice)))).await;
                    }
                    (Some(after.commit), changes)
                }
                Err(failure) => {
                    // The answer is not lost with the checkpoint; the next turn's first one will hold the tree.
                    let notice = format!("the tree could not be saved after the turn: {failure:?}");
                    log.write(LoggedEvent::Agent(TurnEvent::Notice(text::clean(notice)))).await;
                    (None, Vec::new())
                }
            }
        } else {
            (None, Vec::new())
        };
        write_end(&mut log, &finish).await;
        // All texts are told with the end.
        let output = log.answer();
        let usage = match &outcome {
            Outcome::Completed { usage } if !usage.is_zero() => *usage,
            // Also a turn that failed or was stopped has cost what it said until then.
            _ => told,
        };
        let usage = (!usage.is_zero()).then(|| (model.unwrap_or_default(), usage));
        let result = TurnResult {
            lease: self.task.lease,
            agent: self.task.agent.clone(),
            output: (finish.status.is_final() && !output.is_empty()).then(|| text::clean(output.to_owned())),
            checkpoint,
            changes,
            usage,
        };
        let (stored, closed, ()) =
            tokio::join!(self.store(&result), log.close(), self.prune_now_and_then(&ready));
        failpoint("result_stored").await;
        match (stored, closed) {
            (Err(TurnFailure::LostLease), _) | (_, Err(WriteEnded::LostLease)) => Outcome::Abandoned,
            (Err(failure), _) => failure.outcome(),
            (_, Err(WriteEnded::Refused)) => {
                verdict::failed(FailureReason::Internal, "the database refused the turn's events")
            }
            (Ok(()), Ok(())) => outcome,
        }
    }

    /// A turn that failed before it began is told too: whoever follows the task would else see nothing, try after try. While
    /// the database is away, or the node goes, there is nothing to tell of the task.
    pub(super) async fn tell_of_failure(&self, outcome: &Outcome) {
        let Outcome::Failed { reason, .. } = outcome else { return };
        if matches!(reason, FailureReason::DatabaseFailed | FailureReason::Drained) {
            return;
        }
        let Some(finish) = verdict::finish(outcome, self.task, 0.0) else { return };
        let redactor = self.redactor();
        let mut log = self.engine.writer.open(self.task.lease, self.task.last_seq, &redactor).await;
        write_end(&mut log, &finish).await;
        if log.close().await.is_err() {
            // The finish meets the same and decides.
            tracing::debug!(task = %self.task.lease.task, "the failure could not be written to the log");
        }
    }

    async fn keep_or_drop_the_conversation(&self, ready: &mut Ready, outcome: &Outcome) {
        let Outcome::Failed { reason, backend_lost, .. } = outcome else { return };
        let poisons = reason.consequence().poisons;
        if !*backend_lost && !poisons {
            return;
        }
        if poisons {
            ready.slot.release().await;
        } else {
            ready.slot.take_handle();
        }
    }

    /// Every tenth turn of a session: two git processes are too much for each one.
    async fn prune_now_and_then(&self, ready: &Ready) {
        if self.task.lease.fence.0 % 10 != 0 {
            return;
        }
        if let Err(error) = self.engine.worktrees.prune(&ready.worktree, CHECKPOINTS_KEPT).await {
            tracing::warn!(session = %self.task.lease.session, %error, "old checkpoints were not dropped");
        }
    }

    async fn changes(&self, ready: &Ready) -> Result<(Checkpoint, Vec<FileChange>), TurnFailure> {
        let worktrees = &self.engine.worktrees;
        let after = worktrees.checkpoint(&ready.worktree, "after").await?;
        let changes = if after.commit == ready.checkpoint {
            Vec::new()
        } else {
            worktrees.changes(&ready.worktree, &ready.checkpoint, &after.commit).await?
        };
        Ok((after, changes))
    }

    /// Stores the result; an outage is waited out, since the turn's work is done and must not be lost.
    async fn store(&self, result: &TurnResult) -> Result<(), TurnFailure> {
        let mut wait = Duration::from_millis(100);
        loop {
            match self.engine.source.store_result(result).await {
                Err(SourceError::Unavailable(error)) => {
                    tracing::warn!(task = %self.task.lease.task, %error, "the result waits for the database");
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(Duration::from_secs(2));
                }
                outcome => return Ok(outcome?),
            }
        }
    }
}

/// The last word of a turn. Why a try failed that is followed by another is told with it; a task's own end has its error.
async fn write_end(log: &mut TurnLog, finish: &Finish) {
    if let Some((_, message)) = finish.failure.as_ref().filter(|_| !finish.status.is_final()) {
        let notice = text::clean(format!("this try failed: {message}"));
        log.write(LoggedEvent::Agent(TurnEvent::Notice(notice))).await;
    }
    let reason = finish.failure.as_ref().map(|(reason, _)| *reason);
    log.write(LoggedEvent::TurnEnded { outcome: finish.status, reason }).await;
}
