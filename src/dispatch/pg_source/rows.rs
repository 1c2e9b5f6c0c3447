//! Conversions between the engine's words and rows: pure, total.

use super::super::interview::row_id;
use super::super::task_source::{EventBatch, Finish, FinishOutcome, PermissionAsk, SourceError, Standing};
use crate::domain::agent::AgentName;
use crate::domain::ids::{Fence, SessionId, TaskId, WorkspaceId};
use crate::domain::permission::{PermissionDecision, PermissionStatus};
use crate::domain::permission_rule::{StandingRule, answerer};
use crate::domain::task::{ClaimedTask, Lease, TaskSettings};
use crate::domain::text;
use crate::store::events::{NewBatch, NewEvent};
use crate::store::permissions::{NewPermission, Settlement, StandingRow};
use crate::store::queue::{ClaimedRow, FinishRow, Finished};
use crate::wire;

pub(super) fn finish_row(finish: &Finish) -> FinishRow {
    let (reason, error) = match &finish.failure {
        Some((reason, message)) => {
            (Some(reason.as_str()), Some(text::cut(text::clean(message.clone()), 64 << 10)))
        }
        None => (None, None),
    };
    FinishRow {
        session: finish.lease.session.0,
        fence: finish.lease.fence.0,
        task: finish.lease.task.0,
        status: finish.status.as_str(),
        wait_secs: finish.wait.as_secs_f64(),
        reason,
        error,
        charged: i32::from(finish.charged),
        conversation: finish.conversation.as_ref().map(|(agent, status, poison)| {
            (agent.as_str().to_owned(), status.as_str(), poison.map(|reason| reason.as_str()))
        }),
    }
}

pub(super) fn finish_outcome(finished: Finished) -> FinishOutcome {
    match finished {
        Finished::Done | Finished::DoneBefore => FinishOutcome::Done,
        Finished::Busy => FinishOutcome::Again,
        Finished::LostLease => FinishOutcome::LostLease,
    }
}

/// `None` for a name that the table's own CHECK would have refused.
pub(super) fn claimed_task(row: ClaimedRow) -> Option<ClaimedTask> {
    Some(ClaimedTask {
        lease: Lease { session: SessionId(row.session), task: TaskId(row.task), fence: Fence(row.fence) },
        workspace: WorkspaceId(row.workspace),
        agent: AgentName::new(row.agent).ok()?,
        prompt: row.prompt,
        settings: TaskSettings {
            model: row.model,
            mode_id: row.mode_id,
            thinking_option_id: row.thinking_option_id,
            feature_values: row.feature_values,
        },
        attempt: row.attempt,
        failures: row.failures,
        failures_max: row.max_failures,
        last_seq: row.last_seq,
        previous_fence: row.previous_fence.map(Fence),
        cancel_requested: row.cancel_requested,
    })
}

pub(super) fn new_batch(batch: &EventBatch) -> NewBatch {
    let events = (batch.first_seq..).zip(batch.events.iter().cloned()).map(|(seq, event)| {
        let stored = wire::event::stored(event);
        NewEvent {
            seq,
            kind: stored.kind,
            tool: stored.tool,
            content: stored.content,
            input: stored.input,
            output: stored.output,
            output_bytes: stored.output_bytes,
            whole_output: stored.whole_output,
        }
    });
    NewBatch {
        session: batch.lease.session.0,
        task: batch.lease.task.0,
        fence: batch.lease.fence.0,
        events: events.collect(),
    }
}

pub(super) fn new_permission(lease: &Lease, agent: &AgentName, ask: &PermissionAsk) -> NewPermission {
    let by = ask.rule.map_or_else(|| "policy".to_owned(), answerer);
    NewPermission {
        session: lease.session.0,
        fence: lease.fence.0,
        task: lease.task.0,
        agent: agent.as_str().to_owned(),
        agent_request_id: row_id(&ask.request.agent_request_id),
        kind: ask.request.kind.as_str(),
        title: text::cut(text::clean(ask.request.title.clone()), 4096),
        payload: text::clean_json(ask.request.payload.clone()),
        answered: ask.answered.as_ref().map(|answer| (answer_json(answer), by)),
        deadline_secs: ask.deadline.map(|deadline| deadline.as_secs_f64()),
    }
}

pub(super) fn by_deadline(answer: &PermissionDecision) -> Settlement {
    let status = PermissionStatus::Expired.as_str();
    Settlement { answer: answer_json(answer), status, by: "deadline".to_owned() }
}

pub(super) fn by_rule(rule: &StandingRule) -> Settlement {
    let status = PermissionStatus::Answered.as_str();
    Settlement { answer: answer_json(&rule.answer()), status, by: answerer(rule.id) }
}

fn answer_json(answer: &PermissionDecision) -> serde_json::Value {
    text::clean_json(wire::permission::to_json(answer.clone()))
}

/// What stands for a question that its node closed. Without a row (somebody deleted it) nobody can have answered.
pub(super) fn standing_of(row: Option<StandingRow>) -> Result<Standing, SourceError> {
    let Some(StandingRow { status, answer }) = row else { return Ok(Standing::Expired) };
    match answer {
        Some(answer) if status == PermissionStatus::Answered.as_str() => {
            Ok(Standing::Answered(wire::permission::from_json(answer)))
        }
        // Finish and rescue close what is open: the lane has gone on.
        _ if status == PermissionStatus::Cancelled.as_str() => Err(SourceError::LostLease),
        // Expired by this call, or by one before it whose reply was lost.
        _ => Ok(Standing::Expired),
    }
}
