//! The way to one stream reader: what waits on it is bounded in bytes, and a reader that takes nothing is found out.

use axum::response::sse::Event;
use futures::Stream;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

/// What may wait for one reader, in KiB; a larger row waits alone. A thousand that do not read hold 32 MiB.
const ROOM_KIB: u32 = 32;
/// What an event weighs beside its data, in bytes.
const EVENT_BYTES: usize = 256;
/// How long a reader may take nothing before it is sent away.
const STALL_MAX: Duration = Duration::from_secs(30);

pub(super) type Events = Result<Event, Infallible>;

/// The way to one reader. What waits on it is bounded in bytes.
pub(super) struct Out {
    events: mpsc::Sender<(Event, OwnedSemaphorePermit)>,
    room: Arc<Semaphore>,
    /// Said when all else has been taken.
    last: Option<oneshot::Sender<Event>>,
}

pub(super) fn out() -> (Out, impl Stream<Item = Events>) {
    // As many as the smallest events that there is room for.
    let (events, taken) = mpsc::channel(ROOM_KIB as usize);
    let (last, last_word) = oneshot::channel();
    let stream = futures::stream::unfold((taken, Some(last_word)), async |(mut taken, mut last_word)| {
        let event = match taken.recv().await {
            Some((event, _room)) => event,
            None => last_word.take()?.await.ok()?,
        };
        Some((Ok(event), (taken, last_word)))
    });
    (Out { events, room: Arc::new(Semaphore::new(ROOM_KIB as usize)), last: Some(last) }, stream)
}

/// Why a reader ends.
pub(super) enum Over {
    /// The connection is gone, or all was said.
    Done,
    /// It takes nothing.
    Stalled,
}

impl Out {
    fn kib(bytes: usize) -> u32 {
        u32::try_from((bytes + EVENT_BYTES).div_ceil(1024)).unwrap_or(ROOM_KIB).min(ROOM_KIB)
    }

    /// There is room at once for an event of so many bytes.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        self.room.available_permits() >= Self::kib(bytes) as usize && self.events.capacity() > 0
    }

    /// Waits until there is.
    pub(super) async fn until_room(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Over> {
        let room = Arc::clone(&self.room).acquire_many_owned(Self::kib(bytes));
        tokio::select! {
            () = self.events.closed() => Err(Over::Done),
            room = tokio::time::timeout(STALL_MAX, room) => match room {
                Ok(room) => room.map_err(|_| Over::Done),
                Err(_) => Err(Over::Stalled),
            },
        }
    }

    /// Resolves when the reader is gone.
    pub(super) async fn closed(&self) {
        self.events.closed().await;
    }

    /// The last of all, whether there is room or not.
    pub(super) fn end_with(mut self, event: Event) {
        // A reader that is gone hears it from nobody.
        let _ = self.last.take().map(|last| last.send(event));
    }

    pub(super) async fn send(&self, event: Event, bytes: usize) -> Result<(), Over> {
        let room = self.until_room(bytes).await?;
        match tokio::time::timeout(STALL_MAX, self.events.send((event, room))).await {
            Ok(sent) => sent.map_err(|_| Over::Done),
            Err(_) => Err(Over::Stalled),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::StreamExt;

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_takes_nothing_is_sent_away_with_its_cursor_and_one_that_goes_on_is_not() {
        let (out, events) = out();
        let mut events = std::pin::pin!(events);
        let event = || Event::default().data("x");
        let mut held = 0;
        while out.has_room(1000) {
            assert!(out.send(event(), 1000).await.is_ok());
            held += 1;
        }
        assert!((8..=32).contains(&held), "{held}");
        assert!(matches!(out.send(event(), 1000).await, Err(Over::Stalled)));
        assert!(events.next().await.is_some(), "it goes on");
        assert!(out.send(event(), 1000).await.is_ok());
        out.end_with(Event::default().event("resync"));
        assert_eq!(events.count().await, held + 1, "what waited, and the last word");
    }

    #[tokio::test]
    async fn an_event_larger_than_all_the_room_waits_alone() {
        let (out, events) = out();
        assert!(out.send(Event::default().data("x"), 9 << 20).await.is_ok());
        assert!(!out.has_room(1));
        drop(events);
        assert!(matches!(out.send(Event::default(), 1).await, Err(Over::Done)));
    }
}
