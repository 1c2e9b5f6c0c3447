//! Hears NOTIFY on a connection of its own and passes hints on; never reads the queue. A hint may be lost or come twice:
//! whoever is woken reads rows. The connection also holds the incarnation's advisory lock, whose loss tells other nodes
//! that this one is gone.

use super::connect::connect;
use super::{Store, StoreError, sql};
use futures::StreamExt;
use std::time::Duration;
use tokio::sync::{broadcast, watch};
use tokio::time::Instant;
use tokio_postgres::{AsyncMessage, Client};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// How often the end-to-end probe runs (River pings after 5 s).
const PROBE_EVERY: Duration = Duration::from_secs(5);
/// How long a probe may take to come back before the connection counts as deaf.
const PROBE_DEADLINE: Duration = Duration::from_secs(5);
/// Longest wait between two tries to connect.
const RECONNECT_MAX: Duration = Duration::from_secs(5);

/// Why somebody is woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hint {
    /// Tasks were inserted, or a lane moved.
    TasksNew,
    /// A cancel was asked.
    TasksCancel,
    /// A person has answered a permission request.
    PermissionsAnswered,
    /// Events were appended, or tasks ended, by this node, which has told its own readers; the nil node: by one that has not.
    SessionEvents(Uuid),
    /// The connection is new: anything may have been missed.
    Reconnected,
}

/// What health says of the listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenerState {
    /// Not heard anything yet.
    Connecting,
    /// Probes come back.
    Listening,
    /// Why not.
    Down(String),
}

/// The two ends that the rest of the program sees.
#[derive(Clone)]
pub struct Listener {
    /// Hints, coalesced by the reader; a lagging reader treats the lag as a hint.
    pub hints: broadcast::Sender<Hint>,
    /// For health.
    pub state: watch::Receiver<ListenerState>,
    /// This connection holds the incarnation's advisory lock.
    pub locked: watch::Receiver<bool>,
}

const CHANNELS: [(&str, Hint); 3] = [
    ("tasks_new", Hint::TasksNew),
    ("tasks_cancel", Hint::TasksCancel),
    ("permissions_answered", Hint::PermissionsAnswered),
];

fn hint(channel: &str, payload: &str) -> Option<Hint> {
    if channel == "session_events" {
        // Empty: from an admission or a rescue, which no node has told its readers of.
        return if payload.is_empty() {
            Some(Hint::SessionEvents(Uuid::nil()))
        } else {
            payload.parse().ok().map(Hint::SessionEvents)
        };
    }
    CHANNELS.iter().find(|(name, _)| *name == channel).map(|(_, hint)| *hint)
}

/// Starts listening; `lock_key` is the incarnation's advisory lock. The future runs until `stop`; its owner awaits it.
pub fn listener(
    store: Store,
    lock_key: i32,
    stop: CancellationToken,
) -> (Listener, impl Future<Output = ()> + Send) {
    // 256 hints: a reader that lags further behind wakes anyway.
    let (hints, _) = broadcast::channel(256);
    let (state, seen) = watch::channel(ListenerState::Connecting);
    let (locked, has_lock) = watch::channel(false);
    let tell = Tell { hints: hints.clone(), state, locked };
    (Listener { hints, state: seen, locked: has_lock }, run(store, lock_key, tell, stop))
}

/// The other ends of [`Listener`].
struct Tell {
    hints: broadcast::Sender<Hint>,
    state: watch::Sender<ListenerState>,
    locked: watch::Sender<bool>,
}

async fn run(store: Store, lock_key: i32, tell: Tell, stop: CancellationToken) {
    let mut wait = Duration::from_millis(100);
    loop {
        let started = Instant::now();
        let ended = tokio::select! {
            () = stop.cancelled() => return,
            ended = listen(&store, lock_key, &tell) => ended,
        };
        tell.locked.send_replace(false);
        if let Err(error) = ended {
            tracing::warn!(%error, "the listener lost its connection; tasks are still found by polling");
            tell.state.send_replace(ListenerState::Down(error.to_string()));
        }
        if started.elapsed() > RECONNECT_MAX {
            wait = Duration::from_millis(100);
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(wait.mul_f64(rand::random_range(0.5..1.0))) => {}
        }
        wait = (wait * 2).min(RECONNECT_MAX);
    }
}

/// Why a listening connection was given up.
#[derive(Debug, thiserror::Error)]
enum Deaf {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the connection was closed")]
    Closed,
    #[error(
        "LISTEN hears nothing on this connection; when the URL points at a pooler in transaction mode, give the way past it \
         with --database-direct-url"
    )]
    ProbeLost,
}

impl From<tokio_postgres::Error> for Deaf {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Store(error.into())
    }
}

async fn listen(store: &Store, lock_key: i32, tell: &Tell) -> Result<(), Deaf> {
    let (client, mut connection) = connect(store.direct()).await?;
    let messages = futures::stream::poll_fn(move |cx| connection.poll_message(cx));
    futures::pin_mut!(messages);
    let mut talk = std::pin::pin!(talk(&client, lock_key, &tell.locked));
    let mut last_heard = Instant::now();
    loop {
        tokio::select! {
            message = messages.next() => match message {
                None => return Err(Deaf::Closed),
                Some(Err(error)) => return Err(error.into()),
                Some(Ok(AsyncMessage::Notification(note))) if note.channel() == "agentpool_probe" => {
                    last_heard = Instant::now();
                    if tell.state.send_if_modified(|s| std::mem::replace(s, ListenerState::Listening) != ListenerState::Listening) {
                        // LISTEN came first, this scan comes second: nothing falls between.
                        let _ = tell.hints.send(Hint::Reconnected);
                    }
                }
                Some(Ok(AsyncMessage::Notification(note))) => {
                    if let Some(hint) = hint(note.channel(), note.payload()) {
                        // Nobody listening yet is no error.
                        let _ = tell.hints.send(hint);
                    }
                }
                Some(Ok(_)) => {}
            },
            failed = &mut talk => return Err(failed),
            () = tokio::time::sleep_until(last_heard + PROBE_EVERY + PROBE_DEADLINE) => return Err(Deaf::ProbeLost),
        }
    }
}

/// The client's side: LISTEN, the lock, then a probe every few seconds, for ever. Returns only to say why it cannot go on.
async fn talk(client: &Client, lock_key: i32, locked: &watch::Sender<bool>) -> Deaf {
    match speak(client, lock_key, locked).await {
        Ok(never) => match never {},
        Err(deaf) => deaf,
    }
}

async fn speak(
    client: &Client,
    lock_key: i32,
    locked: &watch::Sender<bool>,
) -> Result<std::convert::Infallible, Deaf> {
    client
        .batch_execute(
            "LISTEN tasks_new; LISTEN tasks_cancel; LISTEN permissions_answered; LISTEN session_events; LISTEN agentpool_probe",
        )
        .await?;
    let mut probe = tokio::time::interval(PROBE_EVERY);
    let mut relock = tokio::time::interval(Duration::from_millis(250));
    loop {
        tokio::select! {
            _ = probe.tick() => { client.batch_execute("NOTIFY agentpool_probe").await?; }
            // The old connection's backend may still hold the lock for a moment.
            _ = relock.tick(), if !*locked.borrow() => {
                locked.send_replace(client.query_one(sql!("nodes/take_lock"), &[&lock_key]).await?.get(0));
            }
        }
    }
}
