//! Live streams: rows after the cursor, then a wait for a wake, then again. Replay and live are one path, so nothing falls between
//! them. A reader that does not read holds a few rows and no more, and after a while it is sent away with its cursor.

use super::Api;
use super::auth::{self, Token};
use super::feed::{Line, Newer, PAGE, Tail};
use super::outlet::{Events, Out, Over, out};
use super::problem::{Id, Refusal};
use super::{sessions, tasks};
use crate::domain::access::Caller;
use crate::domain::measure;
use crate::store::StoreError;
use crate::wire::api::StreamEnd;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Sse;
use axum::response::sse::Event;
use futures::Stream;
use serde_json::json;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use uuid::Uuid;

/// A reader hears something at least this often.
pub(super) const BEAT_EVERY: Duration = Duration::from_secs(15);
/// The net under lost wakes; and how often it is asked whether a reader's token still lets in: a revoked one is out within 5 s.
pub(super) const DOOR_EVERY: Duration = Duration::from_secs(3);
/// What a reader gets for its last rows when the program ends.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// What is followed.
#[derive(Clone, Copy)]
enum Subject {
    Task(Uuid),
    Session,
}

struct Reader {
    api: Api,
    token: Token,
    subject: Subject,
    session: Uuid,
    after: i64,
    tail: Arc<Tail>,
    wakes: watch::Receiver<u64>,
    out: Out,
}

/// Follows a task: its events so far, those to come, and `end`.
#[utoipa::path(get, path = "/tasks/{id}/events", tag = "tasks",
    params(("id" = Uuid, Path), ("Last-Event-ID" = Option<String>, Header, description = "The id of the last event that was seen")),
    responses((status = 200, description = "Events `message` (EventView), `beat`, `resync`, `end` (StreamEnd)",
        content_type = "text/event-stream", body = String)))]
pub(super) async fn task(
    State(api): State<Api>,
    (caller, token): (Caller, Token),
    Id(id): Id<Uuid>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Events>>, Refusal> {
    let task = tasks::find(&api, &caller, id).await?;
    Ok(follow(api, token, Subject::Task(id), task.session, &headers))
}

/// Follows a session: its events so far and those to come.
#[utoipa::path(get, path = "/sessions/{id}/events", tag = "sessions",
    params(("id" = Uuid, Path), ("Last-Event-ID" = Option<String>, Header, description = "The id of the last event that was seen")),
    responses((status = 200, description = "Events `message` (EventView), `beat`, `resync`",
        content_type = "text/event-stream", body = String)))]
pub(super) async fn session(
    State(api): State<Api>,
    (caller, token): (Caller, Token),
    Id(id): Id<Uuid>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Events>>, Refusal> {
    sessions::find(&api, &caller, id).await?;
    Ok(follow(api, token, Subject::Session, id, &headers))
}

fn follow(
    api: Api,
    token: Token,
    subject: Subject,
    session: Uuid,
    headers: &HeaderMap,
) -> Sse<impl Stream<Item = Events> + use<>> {
    let cursor = headers.get("last-event-id").and_then(|value| value.to_str().ok()).map(str::to_owned);
    let tail = api.feed.tail(session);
    let (out, events) = out();
    let reader = Reader { wakes: tail.wakes(), api, token, subject, session, after: 0, tail, out };
    // Ends with its connection (`out` closes) or with the program (`closing`); it owns nothing that has to be awaited.
    tokio::spawn(reader.run(cursor));
    Sse::new(events)
}

impl Reader {
    async fn run(mut self, cursor: Option<String>) {
        let _counted = Counted::new();
        let closing = self.api.closing.clone();
        let over = tokio::select! {
            () = closing.cancelled() => None,
            over = self.read(cursor) => Some(over),
        };
        match over {
            // Whoever follows a turn that ended with the drain still hears its end.
            None => {
                let wake = *self.wakes.borrow();
                let _ = tokio::time::timeout(LAST_WORDS, self.catch_up(wake, true)).await;
            }
            Some(Err(Over::Stalled)) => {
                metrics::counter!(measure::STREAMS_LAGGED).increment(1);
                let words = json!({"reason": "nothing was read for too long", "after": self.after});
                let resync =
                    Event::default().event("resync").id(self.cursor(self.after)).data(words.to_string());
                self.out.end_with(resync);
            }
            Some(Err(Over::Done) | Ok(_)) => {}
        }
    }

    async fn read(&mut self, cursor: Option<String>) -> Result<Infallible, Over> {
        if let Some(cursor) = cursor {
            self.resume(&cursor).await?;
        }
        let mut beat = Instant::now() + BEAT_EVERY;
        let mut ask_end = true;
        let mut door = Instant::now() + DOOR_EVERY;
        loop {
            if door <= Instant::now() {
                if !auth::still_lets_in(&self.api, self.token).await {
                    return Err(Over::Done);
                }
                door = Instant::now() + DOOR_EVERY;
            }
            let wake = *self.wakes.borrow_and_update();
            match self.catch_up(wake, ask_end).await? {
                Ok(()) => {}
                Err(error) => tracing::debug!(%error, "a stream waits for the database"),
            }
            tokio::select! {
                () = self.out.closed() => return Err(Over::Done),
                () = tokio::time::sleep_until(beat) => {
                    self.out.send(Event::default().event("beat").data("{}"), 0).await?;
                    beat = Instant::now() + BEAT_EVERY;
                    ask_end = false;
                }
                () = tokio::time::sleep(DOOR_EVERY) => ask_end = true,
                // The feed lives as long as the program.
                _ = self.wakes.changed() => ask_end = false,
            }
        }
    }

    /// A cursor of another database, or one that is not ours, starts again from the beginning and says so.
    async fn resume(&mut self, cursor: &str) -> Result<(), Over> {
        let ours = cursor.split_once(':').filter(|(epoch, _)| *epoch == &*self.api.epoch);
        match ours.and_then(|(_, pos)| pos.parse().ok()).filter(|pos| *pos >= 0) {
            Some(pos) => {
                self.after = pos;
                Ok(())
            }
            None => {
                let words = json!({"reason": "the cursor is of another database", "after": 0}).to_string();
                self.out.send(Event::default().event("resync").data(words), 0).await
            }
        }
    }

    fn cursor(&self, pos: i64) -> String {
        format!("{}:{pos}", self.api.epoch)
    }

    /// Sends all rows after the cursor; of an ended task the end too. Whether it has ended is asked when a row says that an
    /// attempt did, when a wake brings no row (the end itself), and when `ask_end` says so.
    async fn catch_up(&mut self, wake: u64, ask_end: bool) -> Result<Result<(), StoreError>, Over> {
        let said = match self.send_rows(wake).await? {
            Ok(said) => said,
            Err(error) => return Ok(Err(error)),
        };
        let Subject::Task(task) = self.subject else { return Ok(Ok(())) };
        if !(ask_end || said.ends_turn || said.lines == 0) {
            return Ok(Ok(()));
        }
        let end = match self.api.store.task_end(task).await {
            Ok(Some(end)) => end,
            Ok(None) => return Ok(Ok(())),
            Err(error) => return Ok(Err(error)),
        };
        // The status was read before these rows: what it says was true when they were read.
        if let Err(error) = self.send_rows(u64::MAX).await? {
            return Ok(Err(error));
        }
        let end = StreamEnd {
            status: end.status,
            failure_reason: end.failure_reason,
            error: end.error,
            last_pos: self.after,
        };
        let data = serde_json::to_string(&end).expect("a struct of strings is JSON");
        let bytes = data.len();
        self.out.send(Event::default().event("end").data(data), bytes).await?;
        Err(Over::Done)
    }

    /// Those that were there at `wake`; what does not fit now is read again when there is room.
    async fn send_rows(&mut self, wake: u64) -> Result<Result<Said, StoreError>, Over> {
        let mut said = Said::default();
        loop {
            let Batch { lines, all, up_to } = match self.lines(wake).await {
                Ok(batch) => batch,
                Err(error) => return Ok(Err(error)),
            };
            let mut whole = true;
            for line in lines {
                if self.is_of_subject(&line) {
                    if !self.out.has_room(line.json.len()) {
                        whole = false;
                        drop(self.out.until_room(line.json.len()).await?);
                        break;
                    }
                    let event = Event::default().id(self.cursor(line.pos)).event("message").data(&line.json);
                    self.out.send(event, line.json.len()).await?;
                    said.lines += 1;
                    said.ends_turn |= line.ends_turn;
                }
                self.after = line.pos;
            }
            if whole && all {
                self.after = self.after.max(up_to);
                return Ok(Ok(said));
            }
        }
    }

    fn is_of_subject(&self, line: &Line) -> bool {
        match self.subject {
            Subject::Task(task) => line.task == task,
            Subject::Session => true,
        }
    }

    /// Rows after the cursor: the shared ones when they reach back so far, else a page of our own.
    async fn lines(&self, wake: u64) -> Result<Batch, StoreError> {
        let store = &self.api.store;
        let kept_from = match self.tail.after(store, wake, self.after).await? {
            Newer::Lines(lines) => return Ok(Batch { lines, all: true, up_to: 0 }),
            Newer::KeptFrom(pos) => pos,
        };
        let rows = match self.subject {
            Subject::Task(task) => store.task_events(task, self.session, self.after, PAGE).await?,
            Subject::Session => store.session_events(self.session, self.after, PAGE).await?,
        };
        let all = (rows.len() as i64) < PAGE;
        Ok(Batch {
            lines: rows.into_iter().map(|row| Arc::new(Line::of(row))).collect(),
            all,
            up_to: kept_from,
        })
    }
}

/// Rows after a cursor.
struct Batch {
    lines: Vec<Arc<Line>>,
    /// There were no more.
    all: bool,
    /// Then nothing up to here is missing either: the rows in between are of other tasks.
    up_to: i64,
}

/// A reader, while it is there.
struct Counted(metrics::Gauge);

impl Counted {
    fn new() -> Self {
        let readers = metrics::gauge!(measure::STREAM_READERS);
        readers.increment(1.0);
        Self(readers)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

/// What was sent in one go.
#[derive(Default)]
struct Said {
    lines: usize,
    ends_turn: bool,
}
