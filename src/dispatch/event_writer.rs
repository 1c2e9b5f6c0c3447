//! Stores what turns say: one statement a tick for all turns of the node, at once when idle, every 25 ms under load.
//! Never drops an event, never reorders one; a full queue slows the agents down.

mod long_outputs;

use super::task_source::{AppendOutcome, EventBatch, LoggedEvent, SourceError, TaskSource};
use crate::domain::redaction::{Redactor, TurnRedaction};
use crate::domain::task::Lease;
use crate::domain::turn::TurnEvent;
use crate::failpoint::failpoint;
use long_outputs::{LongOutputs, is_long};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::Instant;

/// Shortest time between two commits under load: 40 a second.
const TICK: Duration = Duration::from_millis(25);
/// Events that may wait; beyond it the senders wait.
const QUEUE_MAX: usize = 1024;
/// Bytes of those events; beyond it the senders wait too. One event that is larger has the line for itself.
const QUEUE_BYTES_MAX: usize = 32 << 20;
/// Bytes of text that one batch takes.
const BATCH_BYTES_MAX: usize = 4 << 20;
/// Bytes up to which neighbouring pieces of text become one row. Far below the size at which the edge cuts a text, even when
/// each byte were a NUL that cleaning makes three bytes long: merging must lose nothing.
const MERGED_BYTES_MAX: usize = 256 << 10;
/// Longest answer that is put together for the task's row, in bytes.
const ANSWER_BYTES_MAX: usize = 4 << 20;
/// Longest wait between two tries while the database is away.
const RETRY_MAX: Duration = Duration::from_secs(2);

/// Why a turn's events can no longer be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteEnded {
    /// Another may hold the lane.
    #[error("the lease is lost")]
    LostLease,
    /// The database will not take this turn's events.
    #[error("the database refused the turn's events")]
    Refused,
}

/// A turn's way into the log: what is written takes its secrets out on the way.
pub struct TurnLog {
    lease: Lease,
    queue: mpsc::Sender<Entry>,
    room: Arc<Semaphore>,
    redactor: Redactor,
    redaction: TurnRedaction,
    outputs: LongOutputs,
    answer: String,
}

enum Entry {
    Open {
        lease: Lease,
        last_seq: i64,
    },
    Event {
        lease: Lease,
        event: Box<LoggedEvent>,
        /// Its bytes of the line, given back when it is taken out.
        room: Option<OwnedSemaphorePermit>,
    },
    /// Answered when everything before it is stored. Ends the turn's log when `close` is set.
    Flush {
        lease: Lease,
        close: bool,
        done: oneshot::Sender<Result<(), WriteEnded>>,
    },
}

/// The writer's front: opens logs.
#[derive(Clone)]
pub struct EventWriter {
    queue: mpsc::Sender<Entry>,
    room: Arc<Semaphore>,
}

impl EventWriter {
    /// Starts the writer. The future ends when every [`EventWriter`] and [`TurnLog`] is gone and all is stored; its owner awaits it.
    pub fn new(source: Arc<dyn TaskSource>) -> (Self, impl Future<Output = ()> + Send) {
        let (queue, entries) = mpsc::channel(QUEUE_MAX);
        let room = Arc::new(Semaphore::new(QUEUE_BYTES_MAX));
        (Self { queue, room }, Writer { source, turns: HashMap::new() }.run(entries))
    }

    /// Opens the log of one turn; numbers go on after `last_seq`. `redactor` knows the agent's secrets.
    pub async fn open(&self, lease: Lease, last_seq: i64, redactor: &Redactor) -> TurnLog {
        // The writer outlives every sender, so a send cannot fail while we hold one.
        let _ = self.queue.send(Entry::Open { lease, last_seq }).await;
        TurnLog {
            lease,
            queue: self.queue.clone(),
            room: self.room.clone(),
            redactor: redactor.clone(),
            redaction: TurnRedaction::new(redactor.clone()),
            outputs: LongOutputs::default(),
            answer: String::new(),
        }
    }
}

impl TurnLog {
    /// Puts one event in line, without secrets. Waits when the line is full. The end of a text waits for the next event when it may be
    /// the beginning of a secret.
    pub async fn write(&mut self, event: LoggedEvent) {
        if is_long(&event) {
            self.release().await;
            if let Some(event) = self.outputs.take(&self.redactor, event).await {
                self.send(event).await;
            }
            return;
        }
        for event in self.redaction.take(event) {
            self.send(event).await;
        }
    }

    async fn release(&mut self) {
        for event in self.redaction.release() {
            self.send(event).await;
        }
    }

    /// What the agent answered so far, as the log tells it: its texts put together.
    pub fn answer(&self) -> &str {
        &self.answer
    }

    async fn send(&mut self, event: LoggedEvent) {
        if let LoggedEvent::Agent(TurnEvent::Text(text)) = &event
            && self.answer.len() < ANSWER_BYTES_MAX
        {
            self.answer.push_str(text);
        }
        let bytes = u32::try_from(size(&event).min(QUEUE_BYTES_MAX)).unwrap_or(u32::MAX);
        // The semaphore is never closed.
        let room = self.room.clone().acquire_many_owned(bytes).await.ok();
        let _ = self.queue.send(Entry::Event { lease: self.lease, event: Box::new(event), room }).await;
    }

    /// Waits until all of the turn's events so far are stored.
    ///
    /// # Errors
    /// [`WriteEnded`] when they never will be.
    pub async fn flush(&mut self) -> Result<(), WriteEnded> {
        self.settle(false).await
    }

    /// The same, and the log is closed.
    ///
    /// # Errors
    /// [`WriteEnded`] when they never will be.
    pub async fn close(mut self) -> Result<(), WriteEnded> {
        self.settle(true).await
    }

    async fn settle(&mut self, close: bool) -> Result<(), WriteEnded> {
        self.release().await;
        let (done, stored) = oneshot::channel();
        let _ = self.queue.send(Entry::Flush { lease: self.lease, close, done }).await;
        stored.await.unwrap_or(Err(WriteEnded::Refused))
    }
}

struct Writer {
    source: Arc<dyn TaskSource>,
    /// By lease, not by task: a zombie's log may be open beside that of the next attempt, and must not write into it.
    turns: HashMap<Lease, Turn>,
}

struct Turn {
    last_seq: i64,
    pending: Vec<LoggedEvent>,
    ended: Option<WriteEnded>,
}

type Waiter = (Lease, bool, oneshot::Sender<Result<(), WriteEnded>>);

impl Writer {
    async fn run(mut self, mut entries: mpsc::Receiver<Entry>) {
        let mut last_commit = Instant::now() - TICK;
        while let Some(first) = entries.recv().await {
            let mut waiters = Vec::new();
            let mut bytes = self.take(first, &mut waiters);
            // Under load the line fills while we wait for the next tick; a flush is waited for, so it ends the wait.
            while waiters.is_empty() && bytes < BATCH_BYTES_MAX {
                match tokio::time::timeout_at(last_commit + TICK, entries.recv()).await {
                    Ok(Some(entry)) => bytes += self.take(entry, &mut waiters),
                    Ok(None) | Err(_) => break,
                }
            }
            while bytes < BATCH_BYTES_MAX {
                match entries.try_recv() {
                    Ok(entry) => bytes += self.take(entry, &mut waiters),
                    Err(_) => break,
                }
            }
            if self.turns.values().any(|turn| !turn.pending.is_empty()) {
                self.store().await;
                last_commit = Instant::now();
            }
            self.answer(waiters);
        }
    }

    fn take(&mut self, entry: Entry, waiters: &mut Vec<Waiter>) -> usize {
        match entry {
            Entry::Open { lease, last_seq } => {
                self.turns.insert(lease, Turn { last_seq, pending: Vec::new(), ended: None });
                0
            }
            Entry::Event { lease, event, room } => {
                drop(room);
                let bytes = size(&event);
                if let Some(turn) = self.turns.get_mut(&lease).filter(|turn| turn.ended.is_none()) {
                    merge(&mut turn.pending, *event);
                }
                bytes
            }
            Entry::Flush { lease, close, done } => {
                waiters.push((lease, close, done));
                0
            }
        }
    }

    fn answer(&mut self, waiters: Vec<Waiter>) {
        for (lease, close, done) in waiters {
            let outcome = self.turns.get(&lease).and_then(|turn| turn.ended).map_or(Ok(()), Err);
            if close {
                self.turns.remove(&lease);
            }
            // Whoever asked may have been dropped.
            let _ = done.send(outcome);
        }
    }

    async fn store(&mut self) {
        let batches: Vec<EventBatch> = self
            .turns
            .iter_mut()
            .filter(|(_, turn)| !turn.pending.is_empty())
            .map(|(lease, turn)| EventBatch {
                lease: *lease,
                first_seq: turn.last_seq + 1,
                events: std::mem::take(&mut turn.pending),
            })
            .collect();
        match self.append(&batches).await {
            Ok(outcomes) => self.settle(&batches, &outcomes),
            // One bad row must not sink a batch: each turn on its own, and only the bad one ends.
            Err(_) => {
                for batch in &batches {
                    match self.append(std::slice::from_ref(batch)).await {
                        Ok(outcomes) => self.settle(std::slice::from_ref(batch), &outcomes),
                        Err(error) => {
                            tracing::error!(task = %batch.lease.task, %error, "the turn's events were refused");
                            self.end(&batch.lease, WriteEnded::Refused);
                        }
                    }
                }
            }
        }
    }

    /// Tries until the database is there; only a refusal comes back.
    async fn append(&self, batches: &[EventBatch]) -> Result<Vec<AppendOutcome>, SourceError> {
        let mut wait = TICK;
        loop {
            let appended = self.source.append(batches).await;
            failpoint("appended").await;
            match appended {
                Err(SourceError::Unavailable(error)) => {
                    tracing::warn!(%error, "events wait for the database");
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(RETRY_MAX);
                }
                outcome => return outcome,
            }
        }
    }

    fn settle(&mut self, batches: &[EventBatch], outcomes: &[AppendOutcome]) {
        for (batch, outcome) in batches.iter().zip(outcomes) {
            match outcome {
                AppendOutcome::Done => {
                    if let Some(turn) = self.turns.get_mut(&batch.lease) {
                        turn.last_seq += i64::try_from(batch.events.len()).unwrap_or(i64::MAX);
                    }
                }
                AppendOutcome::LostLease => self.end(&batch.lease, WriteEnded::LostLease),
                AppendOutcome::Gap { expected } => {
                    tracing::error!(task = %batch.lease.task, first = batch.first_seq, expected, "event numbers do not follow");
                    self.end(&batch.lease, WriteEnded::Refused);
                }
            }
        }
    }

    fn end(&mut self, lease: &Lease, why: WriteEnded) {
        if let Some(turn) = self.turns.get_mut(lease) {
            turn.ended = Some(why);
        }
    }
}

/// Neighbouring pieces of text become one row: the reader sees the same text, the log a tenth of the rows.
fn merge(pending: &mut Vec<LoggedEvent>, event: LoggedEvent) {
    use TurnEvent::{Reasoning, Text};
    match (pending.last_mut(), &event) {
        (Some(LoggedEvent::Agent(Text(old))), LoggedEvent::Agent(Text(new)))
        | (Some(LoggedEvent::Agent(Reasoning(old))), LoggedEvent::Agent(Reasoning(new)))
            if old.len() + new.len() <= MERGED_BYTES_MAX =>
        {
            old.push_str(new);
        }
        _ => pending.push(event),
    }
}

/// About how many bytes an event holds.
fn size(event: &LoggedEvent) -> usize {
    // What an event takes at least.
    256 + match event {
        LoggedEvent::Agent(said) => size_of_said(said),
        LoggedEvent::LongOutput { said, output } => {
            size_of_said(said) + output.packed.as_ref().map_or(0, |packed| packed.len())
        }
        LoggedEvent::TurnStarted { .. }
        | LoggedEvent::PermissionResolved { .. }
        | LoggedEvent::TurnEnded { .. } => 0,
    }
}

fn size_of_said(said: &TurnEvent) -> usize {
    use TurnEvent::{Notice, Permission, Reasoning, Retry, Text, ToolCall, ToolUpdate};
    match said {
        Text(text) | Reasoning(text) | Notice(text) => text.len(),
        ToolCall(call) | ToolUpdate(call) => {
            let diffs =
                call.diffs.iter().map(|diff| diff.new.len() + diff.old.as_ref().map_or(0, String::len));
            let output = call.output.as_ref().map_or(0, String::len);
            output + call.input.as_ref().map_or(0, size_of_json) + diffs.sum::<usize>()
        }
        Permission(request) => size_of_json(&request.payload),
        Retry { message, .. } => message.len(),
        _ => 0,
    }
}

fn size_of_json(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(|item| size_of_json(item) + 16).sum(),
        Value::Object(fields) => fields.iter().map(|(key, item)| key.len() + size_of_json(item) + 16).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    }
}
