//! What stream readers of this node share: the newest rows of each session that is followed, read once for all its readers, and
//! the wakes that say when to look. Rows decide; a lost wake costs a few seconds.

use crate::domain::ids::SessionId;
use crate::store::events::EventRow;
use crate::store::{Store, StoreError};
use crate::wire::event::EventView;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::{broadcast, watch};
use tokio::time::Instant;
use uuid::Uuid;

/// Rows that one read brings.
pub(super) const PAGE: i64 = 500;
/// Rows of one session that are kept for its readers, in bytes of JSON; at least the newest row.
const KEPT_BYTES_MAX: usize = 1 << 20;
/// Pages that are read to go on with what is kept; a session that is further ahead is begun with anew.
const PAGES_MAX: usize = 4;
/// Without a wake the rows are read again when they are older than this.
const STALE: Duration = Duration::from_millis(2500);

/// What wakes stream readers, and what they read. Cheap to clone.
#[derive(Clone)]
pub struct Feed {
    inner: Arc<Inner>,
}

struct Inner {
    hints: broadcast::Sender<FeedWake>,
    tails: Mutex<HashMap<Uuid, Weak<Tail>>>,
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
        // 1024 hints: a reader that lags hears of the lag.
        Self { inner: Arc::new(Inner { hints: broadcast::channel(1024).0, tails: Mutex::default() }) }
    }
}

impl Feed {
    /// Wakes whom it concerns.
    pub fn wake(&self, wake: FeedWake) {
        // No reader is no error.
        let _ = self.inner.hints.send(wake);
        let mut tails = self.tails();
        match wake {
            FeedWake::Session(session) => {
                tails.get(&session.0).and_then(Weak::upgrade).inspect(|tail| tail.wake());
            }
            FeedWake::Any => tails.retain(|_, tail| tail.upgrade().inspect(|tail| tail.wake()).is_some()),
        }
    }

    /// Rows of one session, in order, that this node has just appended: whoever follows it has them without a question to the
    /// database. Rows with JSON are read back, since Postgres writes it in its own way.
    pub fn keep(&self, rows: &[EventRow]) {
        let Some(first) = rows.first() else { return };
        // No reader is no error.
        let _ = self.inner.hints.send(FeedWake::Session(SessionId(first.session)));
        let tail = self.tails().get(&first.session).and_then(Weak::upgrade);
        let Some(tail) = tail else { return };
        if rows.iter().all(|row| row.input.is_none()) {
            tail.keep(rows);
        }
        tail.wake();
    }

    /// Every wake, for readers of hints.
    pub(super) fn hints(&self) -> broadcast::Receiver<FeedWake> {
        self.inner.hints.subscribe()
    }

    /// The newest rows of a session, shared by all that hold this.
    pub(super) fn tail(&self, session: Uuid) -> Arc<Tail> {
        let mut tails = self.tails();
        if let Some(tail) = tails.get(&session).and_then(Weak::upgrade) {
            return tail;
        }
        tails.retain(|_, tail| tail.strong_count() > 0);
        let tail =
            Arc::new(Tail { session, wakes: watch::channel(0).0, kept: tokio::sync::Mutex::default() });
        tails.insert(session, Arc::downgrade(&tail));
        tail
    }

    fn tails(&self) -> std::sync::MutexGuard<'_, HashMap<Uuid, Weak<Tail>>> {
        // No panic can leave the map half-changed.
        self.inner.tails.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One row, as every reader gets it.
#[derive(Debug)]
pub(super) struct Line {
    /// Position in its session's stream.
    pub(super) pos: i64,
    /// Whose.
    pub(super) task: Uuid,
    /// An attempt of it ended.
    pub(super) ends_turn: bool,
    /// [`EventView`] as JSON.
    pub(super) json: String,
}

impl Line {
    pub(super) fn of(row: EventRow) -> Self {
        let (pos, task, ends_turn) = (row.pos, row.task, row.kind == "turn_ended");
        let json = serde_json::to_string(&view(row)).expect("a row of strings and JSON is JSON");
        Self { pos, task, ends_turn, json }
    }
}

/// The newest rows of one session.
pub(super) struct Tail {
    session: Uuid,
    /// Counts the wakes.
    wakes: watch::Sender<u64>,
    kept: tokio::sync::Mutex<Kept>,
}

/// What a [`Tail`] has after a position.
pub(super) enum Newer {
    /// All of it.
    Lines(Vec<Arc<Line>>),
    /// Rows are kept from after this position on only.
    KeptFrom(i64),
}

#[derive(Default)]
struct Kept {
    /// The wake and the time of the last read; none before the first.
    read: Option<(u64, Instant)>,
    /// Nothing up to here is kept.
    before: i64,
    lines: VecDeque<Arc<Line>>,
    bytes: usize,
}

impl Tail {
    fn wake(&self) {
        self.wakes.send_modify(|count| *count += 1);
    }

    /// Nothing, unless all that was there before is kept: then the next wake has these rows.
    fn keep(&self, rows: &[EventRow]) {
        // Who holds it reads the database, and these rows with it or after the wake.
        let Ok(mut kept) = self.kept.try_lock() else { return };
        let count = *self.wakes.borrow();
        if kept.read.is_none_or(|(seen, _)| seen != count) {
            return;
        }
        let mut rows = rows.iter().filter(|row| row.pos > kept.last()).peekable();
        if rows.peek().is_none_or(|row| row.pos != kept.last() + 1) {
            return;
        }
        let lines: Vec<Line> = rows.cloned().map(Line::of).collect();
        lines.into_iter().for_each(|line| kept.keep(line));
        kept.read = Some((count + 1, Instant::now()));
    }

    /// Changes with every wake.
    pub(super) fn wakes(&self) -> watch::Receiver<u64> {
        self.wakes.subscribe()
    }

    /// All rows after a position that were there at `wake`; when they begin before what is kept, the caller reads pages for itself
    /// until it is near the end. A `wake` that has not come yet means: read the rows now.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(super) async fn after(&self, store: &Store, wake: u64, after: i64) -> Result<Newer, StoreError> {
        let mut kept = self.kept.lock().await;
        if kept.read.is_none_or(|(seen, at)| seen < wake || at.elapsed() > STALE) {
            // What is read after this count was taken may hold more than it promises, never less.
            let count = *self.wakes.borrow();
            kept.go_on(store, self.session).await?;
            kept.read = Some((count, Instant::now()));
        }
        if after < kept.before {
            return Ok(Newer::KeptFrom(kept.before));
        }
        let from = kept.lines.partition_point(|line| line.pos <= after);
        Ok(Newer::Lines(kept.lines.range(from..).cloned().collect()))
    }
}

impl Kept {
    async fn go_on(&mut self, store: &Store, session: Uuid) -> Result<(), StoreError> {
        if self.read.is_some() {
            for _ in 0..PAGES_MAX {
                let rows = store.session_events(session, self.last(), PAGE).await?;
                let full = rows.len() as i64 == PAGE;
                rows.into_iter().for_each(|row| self.keep(Line::of(row)));
                if !full {
                    return Ok(());
                }
            }
        }
        *self = Self { before: store.stream_end(session).await?, ..Self::default() };
        Ok(())
    }

    /// The newest position that is known.
    fn last(&self) -> i64 {
        self.lines.back().map_or(self.before, |line| line.pos)
    }

    fn keep(&mut self, line: Line) {
        self.bytes += line.json.len();
        self.lines.push_back(Arc::new(line));
        while self.bytes > KEPT_BYTES_MAX
            && self.lines.len() > 1
            && let Some(line) = self.lines.pop_front()
        {
            self.bytes -= line.json.len();
            self.before = line.pos;
        }
    }
}

pub(super) fn view(row: EventRow) -> EventView {
    EventView {
        pos: row.pos,
        task_id: row.task,
        seq: row.seq,
        kind: row.kind,
        tool: row.tool,
        content: row.content,
        input: row.input,
        output: row.output,
        output_bytes: row.output_bytes,
        created_at: row.created_at,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_bounded_and_its_beginning_is_known() {
        let mut kept = Kept { before: 7, ..Kept::default() };
        for pos in 8..=12 {
            let json = "x".repeat(KEPT_BYTES_MAX / 2);
            kept.keep(Line { pos, task: Uuid::nil(), ends_turn: false, json });
        }
        assert_eq!((kept.lines.len(), kept.before), (2, 10));
        let json = "x".repeat(KEPT_BYTES_MAX * 2);
        kept.keep(Line { pos: 13, task: Uuid::nil(), ends_turn: false, json });
        assert_eq!((kept.lines.len(), kept.before), (1, 12), "the newest stays");
    }

    #[test]
    fn a_wake_reaches_its_session_and_a_session_that_nobody_follows_is_forgotten() {
        let feed = Feed::default();
        let (one, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let (tail, elsewhere) = (feed.tail(one), feed.tail(other));
        feed.wake(FeedWake::Session(SessionId(one)));
        assert_eq!((*tail.wakes().borrow(), *elsewhere.wakes().borrow()), (1, 0));
        assert!(Arc::ptr_eq(&tail, &feed.tail(one)));
        drop(elsewhere);
        feed.wake(FeedWake::Any);
        assert_eq!((*tail.wakes().borrow(), feed.tails().len()), (2, 1));
    }
}
