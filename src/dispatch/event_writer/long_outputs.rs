//! Tool outputs that are too long for a row, on their way into the log: without secrets, with a preview, and kept whole once, when
//! the call is over. Never on a thread that others wait for.

use super::LoggedEvent;
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

/// The event has such an output.
pub(super) fn is_long(event: &LoggedEvent) -> bool {
    matches!(event, LoggedEvent::Agent(TurnEvent::ToolCall(call) | TurnEvent::ToolUpdate(call))
        if call.output.as_ref().is_some_and(|output| output.len() > PREVIEW_BYTES_MAX))
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
    let text = clean(call.output.take().unwrap_or_default());
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
