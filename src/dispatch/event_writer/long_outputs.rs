//! Tool calls that are too long for others to wait for, and outputs that are too long for a row, on their way into the log: without secrets, with a preview, and kept whole once, when
//! the call is over. Never on a thread that others wait for.

use super::{LoggedEvent, size};
use crate::domain::redaction::Redactor;
use crate::domain::text::clean;
use crate::domain::tool_output::{LongOutput, PREVIEW_BYTES_MAX, pack, preview};
use crate::domain::turn::{ToolCall, ToolStatus, TurnEvent};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::sync::Arc;

/// Calls that are remembered at once: more than a turn has with outputs of that length.
const CALLS_MAX: usize = 1024;

/// What was kept in one turn.
#[derive(Default)]
pub(super) struct LongOutputs {
    /// SHA-256 of the kept output, by call: agents tell of a call that is over again.
    kept: HashMap<String, [u8; 32]>,
}

struct Shortened {
    event: LoggedEvent,
    kept: Option<[u8; 32]>,
}

/// The event tells of a tool call at such length, be it in its output, its input or its diffs.
pub(super) fn is_long(event: &LoggedEvent) -> bool {
    matches!(event, LoggedEvent::Agent(TurnEvent::ToolCall(_) | TurnEvent::ToolUpdate(_)))
        && size(event) > PREVIEW_BYTES_MAX
}

impl LongOutputs {
    /// The event as it is logged. `None` when the program ends.
    pub(super) async fn take(&mut self, redactor: &Redactor, event: LoggedEvent) -> Option<LoggedEvent> {
        let LoggedEvent::Agent(event) = event else { return Some(event) };
        let (call, again): (ToolCall, fn(ToolCall) -> TurnEvent) = match event {
            TurnEvent::ToolCall(call) => (call, TurnEvent::ToolCall),
            TurnEvent::ToolUpdate(call) => (call, TurnEvent::ToolUpdate),
            other => return Some(LoggedEvent::Agent(other)),
        };
        let (id, redactor) = (call.call_id.clone(), redactor.clone());
        let known = self.kept.get(&id).copied();
        // 50 MB are half a second of work.
        let work = tokio::task::spawn_blocking(move || shorten(redactor.redact_call(call), again, known));
        let Shortened { event, kept } = match work.await {
            Ok(shortened) => shortened,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => return None,
        };
        if let Some(kept) = kept {
            if self.kept.len() >= CALLS_MAX {
                self.kept.clear();
            }
            self.kept.insert(id, kept);
        }
        Some(event)
    }
}

fn shorten(mut call: ToolCall, again: fn(ToolCall) -> TurnEvent, known: Option<[u8; 32]>) -> Shortened {
    let Some(output) = call.output.take() else {
        return Shortened { event: LoggedEvent::Agent(again(call)), kept: None };
    };
    let text = clean(output);
    let Some(preview) = preview(&text) else {
        call.output = Some(text);
        return Shortened { event: LoggedEvent::Agent(again(call)), kept: None };
    };
    call.output = Some(preview);
    let bytes = text.len() as u64;
    let is_over = matches!(call.status, ToolStatus::Completed | ToolStatus::Failed);
    // While it runs the output grows, and is told whole each time.
    let kept = is_over
        .then(|| <[u8; 32]>::from(Sha256::digest(text.as_bytes())))
        .filter(|kept| known != Some(*kept));
    let packed: Option<Arc<[u8]>> = kept.map(|_| pack(text));
    Shortened {
        event: LoggedEvent::LongOutput { said: again(call), output: LongOutput { bytes, packed } },
        kept,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[tokio::test]
    async fn a_long_input_alone_is_long_and_gets_no_output() {
        let call = ToolCall {
            call_id: "1".into(),
            tool: "edit".into(),
            status: ToolStatus::Running,
            title: None,
            input: Some(json!({"text": "x".repeat(PREVIEW_BYTES_MAX), "key": "ghp_0123456789abcdefghijk"})),
            output: None,
            locations: Vec::new(),
            diffs: Vec::new(),
        };
        let event = LoggedEvent::Agent(TurnEvent::ToolUpdate(call));
        assert!(is_long(&event));
        let told = LongOutputs::default().take(&Redactor::default(), event).await;
        let Some(LoggedEvent::Agent(TurnEvent::ToolUpdate(told))) = told else { panic!("{told:?}") };
        assert_eq!(told.output, None);
        assert_eq!(told.input.unwrap()["key"], "[redacted]");
    }
}
