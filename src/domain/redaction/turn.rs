//! What an agent says in one turn, without its secrets, event by event. What is told in pieces is read as one text.

use super::{Redactor, Stream};
use crate::domain::turn::{LoggedEvent, PlanEntry, ToolCall, ToolDiff, ToolStatus, TurnEvent};

/// The state of one turn.
pub struct TurnRedaction {
    redactor: Redactor,
    text: Stream,
    reasoning: Stream,
}

impl Redactor {
    /// A tool call without secrets.
    pub fn redact_call(&self, call: ToolCall) -> ToolCall {
        let text = |text: String| self.redact(text);
        // Agents tell the output so far each time, as a whole: one that still grows may end within a secret.
        let output = |output: String| match call.status {
            ToolStatus::Pending | ToolStatus::Running => self.redact_so_far(output),
            ToolStatus::Completed | ToolStatus::Failed => self.redact(output),
        };
        let diff =
            |diff: ToolDiff| ToolDiff { path: text(diff.path), old: diff.old.map(text), new: text(diff.new) };
        ToolCall {
            call_id: text(call.call_id),
            tool: text(call.tool),
            status: call.status,
            title: call.title.map(text),
            input: call.input.map(|input| self.redact_json(input)),
            output: call.output.map(output),
            locations: call.locations.into_iter().map(text).collect(),
            diffs: call.diffs.into_iter().map(diff).collect(),
        }
    }
}

impl TurnRedaction {
    /// Of an agent whose secrets that redactor knows.
    pub fn new(redactor: Redactor) -> Self {
        Self { redactor, text: Stream::default(), reasoning: Stream::default() }
    }

    /// Takes an event; gives what can be told now, in order. An end of a text that may be the beginning of a secret waits for the
    /// text to go on, or for an event of another kind.
    pub fn take(&mut self, event: LoggedEvent) -> Vec<LoggedEvent> {
        match event {
            LoggedEvent::Agent(TurnEvent::Text(piece)) => {
                let before = self.reasoning.release(&self.redactor);
                let text = self.text.push(&self.redactor, &piece);
                told([TurnEvent::Reasoning(before), TurnEvent::Text(text)])
            }
            LoggedEvent::Agent(TurnEvent::Reasoning(piece)) => {
                let before = self.text.release(&self.redactor);
                let text = self.reasoning.push(&self.redactor, &piece);
                told([TurnEvent::Text(before), TurnEvent::Reasoning(text)])
            }
            LoggedEvent::Agent(event) => {
                let mut events = if ends_texts(&event) { self.release() } else { self.pause() };
                events.push(LoggedEvent::Agent(self.whole(event)));
                events
            }
            ours => self.release().into_iter().chain([ours]).collect(),
        }
    }

    fn pause(&mut self) -> Vec<LoggedEvent> {
        let (reasoning, text) = (self.reasoning.pause(&self.redactor), self.text.pause(&self.redactor));
        told([TurnEvent::Reasoning(reasoning), TurnEvent::Text(text)])
    }

    /// What still waits.
    pub fn release(&mut self) -> Vec<LoggedEvent> {
        let (reasoning, text) = (self.reasoning.release(&self.redactor), self.text.release(&self.redactor));
        told([TurnEvent::Reasoning(reasoning), TurnEvent::Text(text)])
    }

    fn whole(&self, event: TurnEvent) -> TurnEvent {
        let text = |text: String| self.redactor.redact(text);
        match event {
            TurnEvent::Text(words) => TurnEvent::Text(text(words)),
            TurnEvent::Reasoning(words) => TurnEvent::Reasoning(text(words)),
            TurnEvent::Notice(words) => TurnEvent::Notice(text(words)),
            TurnEvent::ModeChanged(mode) => TurnEvent::ModeChanged(text(mode)),
            TurnEvent::ToolCall(call) => TurnEvent::ToolCall(self.redactor.redact_call(call)),
            TurnEvent::ToolUpdate(call) => TurnEvent::ToolUpdate(self.redactor.redact_call(call)),
            TurnEvent::Plan(entries) => {
                let entry =
                    |entry: PlanEntry| PlanEntry { content: text(entry.content), status: text(entry.status) };
                TurnEvent::Plan(entries.into_iter().map(entry).collect())
            }
            TurnEvent::Commands(names) => TurnEvent::Commands(names.into_iter().map(text).collect()),
            TurnEvent::Permission(request) => TurnEvent::Permission(self.redactor.redact_question(request)),
            TurnEvent::Retry { attempt, message } => TurnEvent::Retry { attempt, message: text(message) },
            TurnEvent::Usage(usage) => TurnEvent::Usage(usage),
        }
    }
}

/// What comes in between while an agent speaks ends no word of it.
fn ends_texts(event: &TurnEvent) -> bool {
    match event {
        TurnEvent::Plan(_)
        | TurnEvent::Commands(_)
        | TurnEvent::ModeChanged(_)
        | TurnEvent::Usage(_)
        | TurnEvent::Retry { .. }
        | TurnEvent::Notice(_) => false,
        TurnEvent::Text(_)
        | TurnEvent::Reasoning(_)
        | TurnEvent::ToolCall(_)
        | TurnEvent::ToolUpdate(_)
        | TurnEvent::Permission(_) => true,
    }
}

fn told<const N: usize>(events: [TurnEvent; N]) -> Vec<LoggedEvent> {
    let is_said = |event: &TurnEvent| !matches!(event, TurnEvent::Text(text) | TurnEvent::Reasoning(text) if text.is_empty());
    events.into_iter().filter(is_said).map(LoggedEvent::Agent).collect()
}
