//! What tracing and `/metrics` hear of a turn: one span, with the attributes of OpenTelemetry's conventions for agents (as of their
//! Development state), and its end. Never a prompt, an answer or an argument.

use crate::dispatch::task_source::Finish;
use crate::dispatch::verdict::Outcome;
use crate::domain::measure;
use crate::domain::task::ClaimedTask;
use std::time::Duration;
use tracing::Span;
use tracing::field::Empty;

/// Around all of a turn.
pub(super) fn span(task: &ClaimedTask) -> Span {
    tracing::info_span!(
        "invoke_agent",
        otel.name = format!("invoke_agent {}", task.agent),
        gen_ai.operation.name = "invoke_agent",
        gen_ai.agent.name = %task.agent,
        gen_ai.conversation.id = %task.lease.session,
        gen_ai.request.model = task.settings.model.as_deref(),
        gen_ai.usage.input_tokens = Empty,
        gen_ai.usage.output_tokens = Empty,
        error.r#type = Empty,
        task = %task.lease.task,
        attempt = task.attempt,
    )
}

/// The turn is over.
pub(super) fn ended(
    span: &Span,
    task: &ClaimedTask,
    outcome: &Outcome,
    finish: Option<&Finish>,
    took: Duration,
) {
    let reason = match outcome {
        Outcome::Completed { usage } => {
            span.record("gen_ai.usage.input_tokens", usage.input_tokens);
            span.record("gen_ai.usage.output_tokens", usage.output_tokens);
            ""
        }
        Outcome::Failed { reason, .. } => {
            span.record("error.type", reason.as_str());
            reason.as_str()
        }
        _ => "",
    };
    let Some(finish) = finish else {
        metrics::counter!(measure::STALE_WRITES).increment(1);
        return;
    };
    let (agent, status) = (task.agent.to_string(), finish.status.as_str());
    metrics::counter!(measure::TASKS_FINISHED, "outcome" => status, "reason" => reason).increment(1);
    metrics::histogram!(measure::TURN_SECONDS, "agent" => agent, "outcome" => status)
        .record(took.as_secs_f64());
}
