//! What the scripted model was asked, for tests and for people who look on. Bounded; decides nothing.

use serde::Serialize;
use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// One request that asked for a completion.
#[derive(Clone, Debug, Serialize)]
pub struct LoggedRequest {
    /// Number of the request since the server's start; the first is 1.
    pub n: u64,
    /// Path without the query.
    pub path: String,
    /// The model that was named.
    pub model: String,
    /// True when a stream of events was wanted.
    pub stream: bool,
    /// True for a side request (no tools offered, or JSON by a schema wanted): no directive was run.
    pub side: bool,
    /// The text that chose the answer: the last true user turn, at most 1 KiB of it.
    pub directive: String,
    /// All user turns, reminders of the agent's own removed, oldest first.
    pub user_turns: Vec<String>,
    /// All messages as they came, each cut at 64 KiB.
    pub messages: Vec<LoggedMessage>,
    /// Names of the tools that were offered.
    pub tools: Vec<String>,
    /// HTTP status of the answer.
    pub status: u16,
    /// How the answer went.
    pub outcome: Outcome,
}

impl LoggedRequest {
    /// Requests that are kept; older ones are forgotten.
    pub const KEPT_MAX: usize = 1_000;

    /// Every message as one text, for a test that asks whether the model saw something.
    pub fn text(&self) -> String {
        self.messages.iter().map(|message| message.text.as_str()).collect::<Vec<_>>().join("\n")
    }
}

/// One message of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LoggedMessage {
    /// `system`, `user`, `assistant`, `tool`, or `call` for a tool call that the assistant made.
    pub role: String,
    /// Its text.
    pub text: String,
}

/// How an answer went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It is still on its way.
    Running,
    /// It was sent whole.
    Finished,
    /// The client left, or the server was stopped, before its end.
    CutOff,
    /// The connection was cut as `DROP` asks.
    Dropped,
}

/// Counts of `FAIL:codexN` that are kept, at most: a loop of failing prompts must not grow the server for ever.
const FAILING_TEXTS_MAX: usize = 10_000;

/// The requests of one server.
#[derive(Default)]
pub(super) struct Log {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    last: u64,
    requests: VecDeque<LoggedRequest>,
    tries: HashMap<String, u32>,
}

impl Log {
    /// Adds a request and gives it its number.
    pub(super) fn add(&self, mut request: LoggedRequest) -> u64 {
        let mut state = self.lock();
        state.last += 1;
        request.n = state.last;
        if state.requests.len() == LoggedRequest::KEPT_MAX {
            state.requests.pop_front();
        }
        state.requests.push_back(request);
        state.last
    }

    /// Says how a request went; one that was forgotten meanwhile stays forgotten.
    pub(super) fn settle(&self, n: u64, outcome: Outcome) {
        if let Some(request) = self.lock().requests.iter_mut().rev().find(|request| request.n == n) {
            request.outcome = outcome;
        }
    }

    /// Counts one more try of a text that asks to fail; 1 is the first.
    pub(super) fn count_try(&self, text: &str) -> u32 {
        let mut state = self.lock();
        if state.tries.len() >= FAILING_TEXTS_MAX && !state.tries.contains_key(text) {
            state.tries.clear();
        }
        let tries = state.tries.entry(text.to_owned()).or_insert(0);
        *tries += 1;
        *tries
    }

    /// Requests with a greater number, oldest first.
    pub(super) fn since(&self, n: u64) -> Vec<LoggedRequest> {
        self.lock().requests.iter().filter(|request| request.n > n).cloned().collect()
    }

    /// Number of the last request; 0 when there was none.
    pub(super) fn last(&self) -> u64 {
        self.lock().last
    }

    /// Forgets everything but the number of the last request.
    pub(super) fn reset(&self) {
        let mut state = self.lock();
        state.requests.clear();
        state.tries.clear();
    }

    /// The state is whole between any two statements that hold the lock, so a panic elsewhere cannot have torn it.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
