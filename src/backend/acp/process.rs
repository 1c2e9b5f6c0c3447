//! One agent process, from its readiness to its end: called until it is gone. Belongs
//! to the backend, never to a request; knows nothing of slots and turns.

use super::Patience;
use super::lines::Counts;
use super::offers::Capabilities;
use super::router::Router;
use super::terminals::Terminals;
use crate::domain::text;
use crate::domain::turn::StopForce;
use crate::process::Child;
use agent_client_protocol::v1::ConnectionTo;
use agent_client_protocol::{
    Agent, Error, UntypedMessage, is_connection_terminated, is_incoming_transport_closed,
};
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Last words of an agent that are shown, in bytes.
const TAIL_BYTES_MAX: usize = 2000;
/// What a process wrote before its end is read for this long at most: descendants may hold its output open for ever.
const DRAIN: Duration = Duration::from_millis(200);
/// How long a process whose output ended may take to end itself.
const EXIT_AFTER_EOF: Duration = Duration::from_secs(2);

/// A live process.
pub(super) struct Process {
    pub(super) pid: u32,
    pub(super) able: Capabilities,
    pub(super) router: Arc<Router>,
    pub(super) counts: Arc<Counts>,
    connection: ConnectionTo<Agent>,
    /// Why it is gone, once it is.
    lost: watch::Sender<Option<String>>,
    stop: watch::Sender<Option<StopForce>>,
    /// Nothing of it is left.
    gone: CancellationToken,
    turns: AtomicU64,
    terminals: Terminals,
    /// From spawn to the answer to `initialize`.
    pub(super) started_in: Duration,
}

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    /// The agent said no.
    #[error("{}", describe(.0))]
    Refused(Error),
    /// It said nothing in time.
    #[error("no answer within {} s", .0.as_secs())]
    Late(Duration),
    /// It is gone.
    #[error("{0}")]
    Lost(String),
}

/// The words of an error, its data where it has any.
pub(super) fn describe(error: &Error) -> String {
    let data = match &error.data {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => format!(": {text}"),
        Some(data) => match ["message", "details", "error"].iter().find_map(|key| data.get(key)?.as_str()) {
            Some(text) => format!(": {text}"),
            None => format!(": {data}"),
        },
    };
    text::cut_between_words(text::clean(format!("{}{data}", error.message)), TAIL_BYTES_MAX)
}

/// Until the process is gone; then every call fails with the reason.
pub(super) async fn watch_over(
    process: Arc<Process>,
    child: Child,
    mut broken: watch::Receiver<Option<String>>,
    terminals: Terminals,
    over: CancellationToken,
) {
    let mut stop = process.stop.subscribe();
    let (reason, force) = tokio::select! {
        exit = child.exited() => {
            // Decided by the wait, not by the end of the file; yet what was written before is heard.
            let _ = timeout(DRAIN, process.connection.incoming_closed()).await;
            (format!("it ended with {exit}{}", last_words(&child)), StopForce::Kill)
        }
        Ok(why) = async { broken.wait_for(Option::is_some).await.map(|why| why.clone()) } => {
            (format!("{}{}", why.unwrap_or_default(), last_words(&child)), StopForce::Kill)
        }
        () = closed_its_output(&process, &child) => {
            (format!("it closed its output and goes on running{}", last_words(&child)), StopForce::Kill)
        }
        force = asked(&mut stop, StopForce::Ask) => ("it was ended by us".to_owned(), force),
    };
    process.lost.send_replace(Some(reason));
    tokio::select! {
        () = child.stop(force) => {}
        _ = asked(&mut stop, StopForce::Kill) => child.stop(StopForce::Kill).await,
    }
    over.cancel();
    terminals.end().await;
    process.gone.cancel();
}

async fn closed_its_output(process: &Process, child: &Child) {
    process.connection.incoming_closed().await;
    if timeout(EXIT_AFTER_EOF, child.exited()).await.is_ok() {
        // Its exit says more.
        std::future::pending::<()>().await;
    }
}

/// Resolves when a stop of that force was asked, with the force; never, if nobody can ask any more.
async fn asked(stop: &mut watch::Receiver<Option<StopForce>>, least: StopForce) -> StopForce {
    let force = stop.wait_for(|force| force.is_some_and(|force| force >= least)).await.map(|force| *force);
    match force {
        Ok(force) => force.unwrap_or(least),
        Err(_) => std::future::pending().await,
    }
}

impl Process {
    pub(super) fn new(
        pid: u32,
        able: Capabilities,
        (router, counts): (Arc<Router>, Arc<Counts>),
        connection: ConnectionTo<Agent>,
        terminals: Terminals,
        started_in: Duration,
    ) -> Self {
        Self {
            pid,
            able,
            router,
            counts,
            connection,
            lost: watch::Sender::new(None),
            stop: watch::Sender::new(None),
            gone: CancellationToken::new(),
            turns: AtomicU64::new(0),
            terminals,
            started_in,
        }
    }

    /// One question and its answer.
    ///
    /// # Errors
    /// See [`CallError`].
    ///
    /// # Cancel safety
    /// May be dropped: the agent is told that nobody waits.
    pub(super) async fn call(
        &self,
        method: &str,
        params: Value,
        within: Duration,
    ) -> Result<Value, CallError> {
        tokio::select! {
            answer = self.ask(method, params) => answer,
            () = tokio::time::sleep(within) => Err(CallError::Late(within)),
        }
    }

    /// The same without a bound: for prompts alone.
    ///
    /// # Errors
    /// [`CallError::Refused`] and [`CallError::Lost`].
    pub(super) async fn ask(&self, method: &str, params: Value) -> Result<Value, CallError> {
        let asked = self.connection.send_request(untyped(method, params)).block_task();
        tokio::select! {
            biased;
            answer = asked => match answer {
                Ok(answer) => Ok(answer),
                Err(error) if is_gone(&error) => Err(CallError::Lost(self.lost().await)),
                Err(error) => Err(CallError::Refused(error)),
            },
            reason = self.lost() => Err(CallError::Lost(reason)),
        }
    }

    /// A word that has no answer. Nobody hears it when the process is gone.
    pub(super) fn tell(&self, method: &str, params: Value) {
        let _ = self.connection.send_notification(untyped(method, params));
    }

    /// Resolves with the reason when it is lost or was ended.
    ///
    /// # Cancel safety
    /// May be dropped at any point.
    pub(super) async fn lost(&self) -> String {
        let mut lost = self.lost.subscribe();
        let reason = lost.wait_for(Option::is_some).await;
        // We hold the sender ourselves.
        reason.ok().and_then(|reason| reason.clone()).unwrap_or_default()
    }

    /// We asked for its end, before or after it was lost.
    pub(super) fn was_ended_by_us(&self) -> bool {
        self.stop.borrow().is_some()
    }

    pub(super) fn is_lost(&self) -> bool {
        self.lost.borrow().is_some()
    }

    /// Asks for its end; returns at once.
    pub(super) fn stop(&self, force: StopForce) {
        self.stop.send_if_modified(|standing| {
            let rises = standing.is_none_or(|standing| force > standing);
            if rises {
                *standing = Some(force);
            }
            rises
        });
    }

    /// Resolves when nothing of it is left.
    pub(super) async fn gone(&self) {
        self.gone.cancelled().await;
    }

    /// It and what runs in its terminals, while it lives.
    pub(super) fn roots(&self) -> Vec<u32> {
        if self.is_lost() { Vec::new() } else { [vec![self.pid], self.terminals.pids()].concat() }
    }

    /// Turns that it has ended.
    pub(super) fn turns(&self) -> u64 {
        self.turns.load(Ordering::Relaxed)
    }

    pub(super) fn turn_ended(&self) {
        self.turns.fetch_add(1, Ordering::Relaxed);
    }
}

impl Patience {
    /// How long a call that opens a conversation may take: an agent may load hundreds of megabytes for it.
    pub(super) const OPEN: Duration = Duration::from_secs(120);
}

/// The connection itself is over: whoever watches the process knows why.
pub(super) fn is_gone(error: &Error) -> bool {
    is_connection_terminated(error) || is_incoming_transport_closed(error)
}

pub(super) fn untyped(method: &str, params: Value) -> UntypedMessage {
    UntypedMessage { method: method.to_owned(), params }
}

pub(super) fn last_words(child: &Child) -> String {
    match tail(child) {
        words if words.is_empty() => String::new(),
        words => format!("; its last words: {words}"),
    }
}

fn tail(child: &Child) -> String {
    let words = child.stderr_tail();
    text::last_words(words.trim(), TAIL_BYTES_MAX).to_owned()
}
