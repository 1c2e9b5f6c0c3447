//! Live streams: rows after the cursor, then a wait for a wake, then again. Replay and live are one path, so nothing falls between
//! them; a wake is a hint, a lost one costs a few seconds.

use super::Api;
use super::problem::{Id, Refusal};
use super::{sessions, tasks};
use crate::domain::ids::SessionId;
use crate::store::StoreError;
use crate::store::events::EventRow;
use crate::wire::api::StreamEnd;
use crate::wire::event::EventView;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Sse;
use axum::response::sse::Event;
use futures::Stream;
use serde_json::json;
use std::convert::Infallible;
use std::time::Duration;
use tokio::sync::{broadcast, mpsc};
use tokio::time::Instant;
use uuid::Uuid;

/// Rows that one read brings.
const PAGE: i64 = 500;
/// A reader hears something at least this often.
const BEAT_EVERY: Duration = Duration::from_secs(15);
/// The net under lost wakes.
const POLL_EVERY: Duration = Duration::from_secs(5);

/// What a reader gets for its last rows when the program ends.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What wakes stream readers. Cheap to clone.
#[derive(Clone)]
pub struct Feed {
    wakes: broadcast::Sender<FeedWake>,
}

/// Why a reader looks again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeedWake {
    /// This session has news.
    Session(SessionId),
    /// Some session on another node has.
    Any,
}

impl Default for Feed {
    fn default() -> Self {
        // 1024 wakes: a reader that lags is woken by the lag.
        Self { wakes: broadcast::channel(1024).0 }
    }
}

impl Feed {
    /// Wakes whom it concerns.
    pub fn wake(&self, wake: FeedWake) {
        // No reader is no error.
        let _ = self.wakes.send(wake);
    }
}

/// What is followed.
#[derive(Clone, Copy)]
enum Subject {
    Task(Uuid),
    Session,
}

struct Reader {
    api: Api,
    subject: Subject,
    session: Uuid,
    after: i64,
    wakes: broadcast::Receiver<FeedWake>,
    out: mpsc::Sender<Event>,
}

pub(super) async fn task(
    State(api): State<Api>,
    Id(id): Id<Uuid>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Refusal> {
    let task = tasks::find(&api, id).await?;
    Ok(follow(api, Subject::Task(id), task.session, &headers))
}

pub(super) async fn session(
    State(api): State<Api>,
    Id(id): Id<Uuid>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Refusal> {
    sessions::find(&api, id).await?;
    Ok(follow(api, Subject::Session, id, &headers))
}

fn follow(
    api: Api,
    subject: Subject,
    session: Uuid,
    headers: &HeaderMap,
) -> Sse<impl Stream<Item = Result<Event, Infallible>> + use<>> {
    let cursor = headers.get("last-event-id").and_then(|value| value.to_str().ok()).map(str::to_owned);
    // One page: a reader that does not read stops the reading of rows, and nothing grows.
    let (out, events) = mpsc::channel(PAGE as usize);
    let wakes = api.feed.wakes.subscribe();
    let reader = Reader { api, subject, session, after: 0, wakes, out };
    // Ends with its connection (`out` closes) or with the program (`closing`); it owns nothing that has to be awaited.
    tokio::spawn(reader.run(cursor));
    Sse::new(futures::stream::unfold(events, async |mut events| Some((Ok(events.recv().await?), events))))
}

/// Why a reader ends.
enum Over {
    /// The connection is gone, or all was said.
    Done,
}

impl Reader {
    async fn run(mut self, cursor: Option<String>) {
        let closing = self.api.closing.clone();
        let over = tokio::select! {
            () = closing.cancelled() => None,
            over = self.read(cursor) => Some(over),
        };
        if over.is_none() {
            // Whoever follows a turn that ended with the drain still hears its end.
            let _ = tokio::time::timeout(LAST_WORDS, self.catch_up()).await;
        }
    }

    async fn read(&mut self, cursor: Option<String>) -> Result<Infallible, Over> {
        if let Some(cursor) = cursor {
            self.resume(&cursor).await?;
        }
        let mut beat = Instant::now() + BEAT_EVERY;
        loop {
            match self.catch_up().await? {
                Ok(()) => {}
                Err(error) => tracing::debug!(%error, "a stream waits for the database"),
            }
            // Before the waiting: wakes of other sessions must not put the net off.
            let poll = Instant::now() + POLL_EVERY;
            loop {
                tokio::select! {
                    () = self.out.closed() => return Err(Over::Done),
                    () = tokio::time::sleep_until(beat) => {
                        self.send(Event::default().event("beat").data("{}")).await?;
                        beat = Instant::now() + BEAT_EVERY;
                    }
                    () = tokio::time::sleep_until(poll) => break,
                    wake = self.wakes.recv() => match wake {
                        Ok(FeedWake::Session(session)) if session.0 != self.session => {}
                        _ => break,
                    },
                }
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
                self.send(Event::default().event("resync").data(words)).await
            }
        }
    }

    /// Sends all rows after the cursor; of an ended task the end too. The status is read before the rows: what it says was true
    /// when the rows were read.
    async fn catch_up(&mut self) -> Result<Result<(), StoreError>, Over> {
        let ended = match self.ended().await {
            Ok(ended) => ended,
            Err(error) => return Ok(Err(error)),
        };
        loop {
            let rows = match self.page().await {
                Ok(rows) => rows,
                Err(error) => return Ok(Err(error)),
            };
            let full = rows.len() as i64 == PAGE;
            for row in rows {
                self.after = row.pos;
                let id = format!("{}:{}", self.api.epoch, row.pos);
                let data = serde_json::to_string(&view(row)).expect("a row of strings and JSON is JSON");
                self.send(Event::default().id(id).event("message").data(data)).await?;
            }
            if !full {
                break;
            }
        }
        if let Some(end) = ended {
            let end = StreamEnd { last_pos: self.after, ..end };
            let data = serde_json::to_string(&end).expect("a struct of strings is JSON");
            self.send(Event::default().event("end").data(data)).await?;
            return Err(Over::Done);
        }
        Ok(Ok(()))
    }

    async fn page(&self) -> Result<Vec<EventRow>, StoreError> {
        match self.subject {
            Subject::Task(task) => self.api.store.task_events(task, self.session, self.after, PAGE).await,
            Subject::Session => self.api.store.session_events(self.session, self.after, PAGE).await,
        }
    }

    async fn ended(&self) -> Result<Option<StreamEnd>, StoreError> {
        let Subject::Task(id) = self.subject else { return Ok(None) };
        let end = self.api.store.task_end(id).await?;
        Ok(end.map(|end| StreamEnd {
            status: end.status,
            failure_reason: end.failure_reason,
            error: end.error,
            last_pos: 0,
        }))
    }

    async fn send(&self, event: Event) -> Result<(), Over> {
        self.out.send(event).await.map_err(|_| Over::Done)
    }
}

fn view(row: EventRow) -> EventView {
    EventView {
        pos: row.pos,
        task_id: row.task,
        seq: row.seq,
        kind: row.kind,
        tool: row.tool,
        content: row.content,
        input: row.input,
        output: row.output,
        created_at: row.created_at,
    }
}
