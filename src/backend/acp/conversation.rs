//! One conversation of an agent's process: what the agent told of it, and who hears it now. Sends nothing by itself.

use super::offers::Told;
use super::router::Ask;
use agent_client_protocol::v1::schema::SessionUpdate;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedMutexGuard, mpsc};
use tokio::time::Instant;

/// Updates between the wire and a turn. Small: a slow store is felt by the agent.
pub(super) const INBOX_MAX: usize = 64;
/// Questions of the agent that wait for their turn to see them.
pub(super) const ASKS_MAX: usize = 64;
/// After a cancelled turn nothing is asked before it was quiet for this long: what trails behind names no turn. Agents were
/// seen to answer a cancel up to 256 ms before they had stopped.
const QUIET: Duration = Duration::from_millis(300);
/// And no longer than this.
const QUIET_MAX: Duration = Duration::from_secs(2);

/// What an agent says of a conversation.
#[derive(Debug)]
pub(super) enum Said {
    /// In a shape that we know.
    Update(Box<SessionUpdate>),
    /// The kind of one that we do not.
    Unknown(String),
}

/// A conversation.
pub(super) struct Conversation {
    /// The agent's id of it.
    pub(super) id: String,
    /// Where it works; nothing outside is read or written for it.
    pub(super) worktree: PathBuf,
    told: Mutex<Told>,
    /// Held for a whole turn, the end of a dropped one included.
    turn: Arc<tokio::sync::Mutex<()>>,
    ears: Mutex<Option<Ears>>,
    last_heard: Mutex<Instant>,
    unsettled: AtomicBool,
}

/// Where a turn listens.
#[derive(Clone)]
pub(super) struct Ears {
    said: mpsc::Sender<Said>,
    asks: mpsc::Sender<Box<Ask>>,
}

/// The hearing end. While it lives what is said goes to its turn.
pub(super) struct Hearing {
    pub(super) said: mpsc::Receiver<Said>,
    pub(super) asks: mpsc::Receiver<Box<Ask>>,
}

impl Conversation {
    pub(super) fn new(id: String, worktree: PathBuf, told: Told) -> Arc<Self> {
        Arc::new(Self {
            id,
            worktree,
            told: Mutex::new(told),
            turn: Arc::default(),
            ears: Mutex::default(),
            last_heard: Mutex::new(Instant::now()),
            unsettled: AtomicBool::new(false),
        })
    }

    /// The right to prompt: one at a time, which agents leave to their client. Waits for a turn that is being stopped.
    ///
    /// # Cancel safety
    /// May be dropped while it waits.
    pub(super) async fn begin(&self) -> OwnedMutexGuard<()> {
        Arc::clone(&self.turn).lock_owned().await
    }

    /// A turn has it.
    pub(super) fn is_in_turn(&self) -> bool {
        self.turn.try_lock().is_err()
    }

    /// From here on what is said goes to the caller.
    pub(super) fn listen(&self) -> Hearing {
        let (said_in, said) = mpsc::channel(INBOX_MAX);
        let (asks_in, asks) = mpsc::channel(ASKS_MAX);
        *lock(&self.ears) = Some(Ears { said: said_in, asks: asks_in });
        Hearing { said, asks }
    }

    /// From here on what is said changes what is known of the conversation, and is no turn's.
    pub(super) fn stop_listening(&self) {
        *lock(&self.ears) = None;
    }

    /// Takes what was said: to the turn, or to nobody. Waits for a turn that is slow.
    pub(super) async fn take(&self, said: Said) {
        *lock(&self.last_heard) = Instant::now();
        if let Said::Update(update) = &said {
            self.told().take(update);
        }
        let ears = lock(&self.ears).clone();
        if let Some(ears) = ears {
            // A turn that ended meanwhile has no use for it.
            let _ = ears.said.send(said).await;
        }
    }

    /// Hands a question to the turn; gives it back when there is none, or when it does not keep up.
    pub(super) fn ask(&self, ask: Box<Ask>) -> Result<(), Box<Ask>> {
        let ears = lock(&self.ears).clone();
        match ears {
            None => Err(ask),
            Some(ears) => ears.asks.try_send(ask).map_err(|refused| match refused {
                mpsc::error::TrySendError::Full(ask) | mpsc::error::TrySendError::Closed(ask) => ask,
            }),
        }
    }

    pub(super) fn told(&self) -> MutexGuard<'_, Told> {
        lock(&self.told)
    }

    /// A turn was cancelled: what trails behind it must not be taken for the next one's.
    pub(super) fn is_unsettled(&self) {
        *lock(&self.last_heard) = Instant::now();
        self.unsettled.store(true, Ordering::Relaxed);
    }

    /// Waits until what trails behind a cancelled turn has come.
    pub(super) async fn settled(&self) {
        if !self.unsettled.swap(false, Ordering::Relaxed) {
            return;
        }
        let bound = Instant::now() + QUIET_MAX;
        loop {
            let quiet = *lock(&self.last_heard) + QUIET;
            if quiet <= Instant::now() || Instant::now() >= bound {
                return;
            }
            tokio::time::sleep_until(quiet.min(bound)).await;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each holds one value that is replaced whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
