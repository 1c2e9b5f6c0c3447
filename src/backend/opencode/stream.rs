//! The one event stream of a server, and who hears what. It reads and hands on; it never acts on an event.
//!
//! A turn whose inbox closes has missed something (the stream broke, or the turn was too slow for its inbox): it
//! subscribes again and reads the server's state, which is the only way to close a gap, as opencode replays nothing.

use super::client::Client;
use super::event::{Event, GlobalEvent};
use eventsource_stream::Eventsource;
use futures::StreamExt;
use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

/// Events that a turn may be behind; more and its inbox is closed. A delta is about 100 bytes.
const INBOX_EVENTS_MAX: usize = 2048;
/// Between two connections, doubled by each failure up to 1.6 s.
const PAUSE: Duration = Duration::from_millis(100);
const DOUBLINGS_MAX: u32 = 4;

/// Who hears the events of which session.
#[derive(Debug)]
pub(super) struct Routes {
    table: Mutex<Table>,
    open: watch::Sender<bool>,
}

#[derive(Debug)]
struct Table {
    open: bool,
    last_heard: Instant,
    next_route: u64,
    routes: HashMap<String, Route>,
    unknown_events: u64,
    last_unknown: Option<String>,
}

#[derive(Debug, Clone)]
struct Route {
    number: u64,
    events: mpsc::Sender<Event>,
}

/// What a turn hears: its session and the sessions of its subagents. Ends when something was missed.
#[derive(Debug)]
pub(super) struct Inbox {
    events: mpsc::Receiver<Event>,
    number: u64,
    routes: Arc<Routes>,
}

impl Inbox {
    /// The next event; `None` when events were missed and the turn must subscribe and reconcile.
    pub async fn next(&mut self) -> Option<Event> {
        self.events.recv().await
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.routes.table().routes.retain(|_, route| route.number != self.number);
    }
}

impl Routes {
    /// Nobody listens and the stream is not open.
    pub fn new() -> Arc<Self> {
        let table = Table {
            open: false,
            last_heard: Instant::now(),
            next_route: 0,
            routes: HashMap::new(),
            unknown_events: 0,
            last_unknown: None,
        };
        Arc::new(Self { table: Mutex::new(table), open: watch::Sender::new(false) })
    }

    /// An inbox for these sessions, as soon as the stream is open.
    pub async fn subscribe(self: &Arc<Self>, sessions: &[String]) -> Inbox {
        let mut open = self.open.subscribe();
        loop {
            // The sender is in `self`, so it cannot be gone.
            let _ = open.wait_for(|open| *open).await;
            if let Some(inbox) = self.try_subscribe(sessions) {
                return inbox;
            }
            // It closed in between; the flag follows under the same lock, so this cannot spin.
            tokio::task::yield_now().await;
        }
    }

    fn try_subscribe(self: &Arc<Self>, sessions: &[String]) -> Option<Inbox> {
        let mut table = self.table();
        if !table.open {
            return None;
        }
        table.next_route += 1;
        let number = table.next_route;
        let (sender, events) = mpsc::channel(INBOX_EVENTS_MAX);
        for session in sessions {
            table.routes.insert(session.clone(), Route { number, events: sender.clone() });
        }
        Some(Inbox { events, number, routes: Arc::clone(self) })
    }

    /// Count of unknown events and the name of the last one.
    pub fn unknown(&self) -> (u64, Option<String>) {
        let table = self.table();
        (table.unknown_events, table.last_unknown.clone())
    }

    /// When the last event of any kind came; at first, when this was made.
    pub fn last_heard(&self) -> Instant {
        self.table().last_heard
    }

    /// True while events arrive.
    pub fn is_open(&self) -> bool {
        self.table().open
    }

    fn set_open(&self, is_open: bool) {
        let mut table = self.table();
        table.open = is_open;
        if !is_open {
            table.routes.clear();
        }
        self.open.send_replace(is_open);
    }

    fn deliver(&self, event: Event) {
        let mut table = self.table();
        table.last_heard = Instant::now();
        if let Event::Unknown(name) = &event {
            table.unknown_events += 1;
            table.last_unknown = Some(name.clone());
            return;
        }
        // A subagent's session is heard by whoever hears its parent.
        if let Event::Created(session) = &event
            && let Some(route) = session.parent_id.as_ref().and_then(|id| table.routes.get(id)).cloned()
        {
            table.routes.insert(session.id.clone(), route);
        }
        let Some(route) = event.session().and_then(|session| table.routes.get(session)) else { return };
        let number = route.number;
        if route.events.try_send(event).is_err() {
            // Too slow, or gone. Nothing may follow a hole: the inbox ends here.
            table.routes.retain(|_, route| route.number != number);
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads the stream for ever, connecting again when it breaks or was silent for so long. Whether the server lives is not
/// judged here.
pub(super) async fn run(client: &Client, routes: &Routes, silence_max: Duration) -> Infallible {
    let mut failures = 0_u32;
    loop {
        let (opened, cause) = match client.events().await {
            Ok(answer) => read(answer, routes, silence_max).await,
            Err(error) => (false, error.to_string()),
        };
        routes.set_open(false);
        failures = if opened { 0 } else { failures.saturating_add(1) };
        tracing::debug!(%cause, failures, "the opencode event stream broke and is opened again");
        tokio::time::sleep(PAUSE * 2_u32.pow(failures.min(DOUBLINGS_MAX))).await;
    }
}

/// Reads one connection to its end. Says whether anything came, and why it ended.
async fn read(answer: reqwest::Response, routes: &Routes, silence_max: Duration) -> (bool, String) {
    let mut opened = false;
    let mut events = answer.bytes_stream().eventsource();
    loop {
        let event = match tokio::time::timeout(silence_max, events.next()).await {
            Ok(Some(Ok(event))) => event,
            Ok(Some(Err(error))) => return (opened, error.to_string()),
            Ok(None) => return (opened, "the stream ended".to_owned()),
            Err(_) => return (opened, format!("no event for {} s", silence_max.as_secs())),
        };
        if !opened {
            opened = true;
            routes.set_open(true);
        }
        match serde_json::from_str::<GlobalEvent>(&event.data) {
            Ok(event) => routes.deliver(Event::parse(event.payload)),
            Err(_) => routes.deliver(Event::Unknown("no event".to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::wire::Session;
    use super::*;

    fn idle(session: &str) -> Event {
        Event::Idle { session: session.to_owned() }
    }

    #[tokio::test]
    async fn a_slow_turn_loses_its_inbox_and_no_other_does() {
        let routes = Routes::new();
        routes.set_open(true);
        let mut slow = routes.subscribe(&["slow".to_owned()]).await;
        let mut quick = routes.subscribe(&["quick".to_owned()]).await;
        for _ in 0..=INBOX_EVENTS_MAX {
            routes.deliver(idle("slow"));
        }
        routes.deliver(idle("quick"));
        let mut heard = 0;
        while slow.next().await.is_some() {
            heard += 1;
        }
        assert_eq!(heard, INBOX_EVENTS_MAX, "what came before the hole is heard, then the end");
        assert_eq!(quick.next().await, Some(idle("quick")));
    }

    #[tokio::test]
    async fn a_subagent_is_heard_by_its_parents_turn_and_a_broken_stream_ends_all() {
        let routes = Routes::new();
        routes.set_open(true);
        let mut inbox = routes.subscribe(&["parent".to_owned()]).await;
        let child = Session {
            id: "child".to_owned(),
            parent_id: Some("parent".to_owned()),
            time: crate::backend::opencode::wire::SessionTime::default(),
        };
        routes.deliver(Event::Created(child.clone()));
        routes.deliver(idle("child"));
        routes.deliver(idle("stranger"));
        routes.set_open(false);
        assert_eq!(inbox.next().await, Some(Event::Created(child)));
        assert_eq!(inbox.next().await, Some(idle("child")));
        assert_eq!(inbox.next().await, None);
    }
}
