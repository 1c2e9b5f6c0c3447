//! One agent process, from its start to its end: spawned under a shim, initialised once, then called until it is gone. Belongs
//! to the backend, never to a request; knows nothing of slots and turns.

use super::client_side;
use super::lines::{self, Counts};
use super::offers::Capabilities;
use super::router::Router;
use super::terminals::Terminals;
use super::{AcpConfig, Patience};
use crate::domain::text;
use crate::domain::turn::StopForce;
use crate::process::{Child, ChildSpec, Environment, Shims, StdinMode, StopPlan};
use agent_client_protocol::v1::ConnectionTo;
use agent_client_protocol::{
    Agent, Error, UntypedMessage, is_connection_terminated, is_incoming_transport_closed,
};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The version that we speak.
const PROTOCOL_VERSION: u64 = 1;
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
    /// From spawn to the answer to `initialize`.
    pub(super) started_in: Duration,
    connection: ConnectionTo<Agent>,
    /// Why it is gone, once it is.
    lost: watch::Sender<Option<String>>,
    stop: watch::Sender<Option<StopForce>>,
    /// Nothing of it is left.
    gone: CancellationToken,
    turns: AtomicU64,
    terminals: Terminals,
}

/// Why there is no process.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum StartError {
    /// Worth trying again.
    #[error("{0}")]
    Failed(String),
    /// It speaks another version, or no ACP.
    #[error("{0}")]
    Incompatible(String),
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
    text::cut(text::clean(format!("{}{data}", error.message)), TAIL_BYTES_MAX)
}

/// Starts a process and initialises it. What did not get so far is ended.
///
/// # Errors
/// [`StartError`], with the last words of the process.
///
/// # Cancel safety
/// When the future is dropped, what was started is ended.
pub(super) async fn start(
    config: &AcpConfig,
    shims: &Shims,
    tracker: &TaskTracker,
) -> Result<Arc<Process>, StartError> {
    let begun = Instant::now();
    let spec = ChildSpec {
        name: format!("agent {}", config.name),
        program: config.program.clone(),
        args: config.args.clone(),
        env: environment(config),
        cwd: config.cwd.clone(),
        stdin: StdinMode::Piped,
        run_as: None,
        stop: StopPlan::Terminate,
        grace: config.grace,
        serves_leases: true,
        limits: config.limits,
    };
    let child = shims.spawn(spec).await.map_err(|error| StartError::Failed(error.to_string()))?;
    let mut child = Unready { child: Some(child), tracker };
    let counts = Arc::new(Counts::default());
    let router = Router::new(config.name.clone(), Arc::clone(&counts));
    let over = CancellationToken::new();
    let end_if_dropped = over.clone().drop_guard();
    let terminals = Terminals::new(config, environment(config), shims.clone(), tracker.clone());
    let (connection, broken) = connect(config, child.get(), &router, &counts, &terminals, tracker, &over)
        .await
        .ok_or_else(|| StartError::Failed("the connection could not be made".to_owned()))?;
    let able = initialize(config, &connection, child.get(), broken.clone()).await?;
    let child = child.ready();
    let pid = child.pid();
    let process = Arc::new(Process {
        pid,
        able,
        router,
        counts,
        started_in: begun.elapsed(),
        connection,
        lost: watch::Sender::new(None),
        stop: watch::Sender::new(None),
        gone: CancellationToken::new(),
        turns: AtomicU64::new(0),
        terminals: terminals.clone(),
    });
    end_if_dropped.disarm();
    tracing::debug!(agent = config.name, pid, ms = begun.elapsed().as_millis(), "an agent process is ready");
    tracker.spawn(watch_over(Arc::clone(&process), child, broken, terminals, over));
    Ok(process)
}

/// A child that is not ready yet. Dropped, it is ended, and the tracker knows until when.
struct Unready<'a> {
    child: Option<Child>,
    tracker: &'a TaskTracker,
}

impl Unready<'_> {
    fn get(&mut self) -> &mut Child {
        self.child.as_mut().expect("it is taken once, by value")
    }

    fn ready(mut self) -> Child {
        self.child.take().expect("it is taken once, by value")
    }
}

impl Drop for Unready<'_> {
    fn drop(&mut self) {
        if let Some(child) = self.child.take() {
            self.tracker.spawn(async move { child.stop(StopForce::Kill).await });
        }
    }
}

/// The environment: an allow-list, a home of its own if it has one, and the agent's own settings.
fn environment(config: &AcpConfig) -> Environment {
    let mut env = Environment::allow_listed();
    if let super::Home::Isolated(home) = &config.home {
        env = env
            .set("HOME", home)
            .set("XDG_CONFIG_HOME", home.join(".config"))
            .set("XDG_DATA_HOME", home.join(".local/share"))
            .set("XDG_STATE_HOME", home.join(".local/state"))
            .set("XDG_CACHE_HOME", home.join(".cache"));
    }
    for (name, value) in &config.env {
        env = env.set(name, value);
    }
    env
}

/// The connection runs in a task of its own until `over`; `broken` says why it ended before.
async fn connect(
    config: &AcpConfig,
    child: &mut Child,
    router: &Arc<Router>,
    counts: &Arc<Counts>,
    terminals: &Terminals,
    tracker: &TaskTracker,
    over: &CancellationToken,
) -> Option<(ConnectionTo<Agent>, watch::Receiver<Option<String>>)> {
    let (stdin, stdout) = (child.take_stdin()?, child.take_stdout()?);
    let outgoing = lines::outgoing(stdin, config.patience.write);
    let incoming = lines::incoming(stdout, Arc::clone(router), Arc::clone(counts));
    let (ready, connection) = oneshot::channel();
    let (broke, broken) = watch::channel(None);
    let serving = client_side::serve(
        agent_client_protocol::Lines::new(outgoing, incoming),
        Arc::clone(router),
        terminals.clone(),
        ready,
        over.clone(),
    );
    tracker.spawn(async move {
        if let Err(error) = serving.await {
            broke.send_replace(Some(describe(&error)));
        }
    });
    Some((connection.await.ok()?, broken))
}

async fn initialize(
    config: &AcpConfig,
    connection: &ConnectionTo<Agent>,
    child: &Child,
    mut broken: watch::Receiver<Option<String>>,
) -> Result<Capabilities, StartError> {
    let own_tools = config.client_tools;
    let params = json!({
        "protocolVersion": PROTOCOL_VERSION,
        "clientCapabilities": {
            "fs": {"readTextFile": own_tools, "writeTextFile": own_tools},
            "terminal": own_tools,
        },
        "clientInfo": {"name": "agentpool", "title": "agentpool", "version": env!("CARGO_PKG_VERSION")},
    });
    let asked = connection.send_request(untyped("initialize", params)).block_task();
    let failed = |what: String| StartError::Failed(format!("{what}{}", last_words(child)));
    let answer = tokio::select! {
        answer = asked => match answer {
            Ok(answer) => answer,
            Err(error) if is_gone(&error) => {
                // Whatever ended the connection says more than that it ended.
                let why = tokio::select! {
                    exit = child.exited() => format!("it ended with {exit}"),
                    Ok(why) = broken.wait_for(Option::is_some) => why.clone().unwrap_or_default(),
                    () = tokio::time::sleep(EXIT_AFTER_EOF) => "it closed its output".to_owned(),
                };
                return Err(failed(why));
            }
            Err(error) => {
                let why = format!("it refused to be initialised: {}{}", describe(&error), last_words(child));
                return Err(StartError::Incompatible(why));
            }
        },
        exit = child.exited() => return Err(failed(format!("it ended with {exit}"))),
        () = tokio::time::sleep(config.start_deadline) => {
            let secs = config.start_deadline.as_secs();
            return Err(failed(format!("it did not answer to `initialize` within {secs} s")));
        }
    };
    match answer.get("protocolVersion").and_then(Value::as_u64) {
        Some(PROTOCOL_VERSION) => Ok(Capabilities::of(&answer)),
        other => Err(StartError::Incompatible(format!(
            "it speaks version {} of the Agent Client Protocol, we speak {PROTOCOL_VERSION}",
            other.map_or_else(|| "none".to_owned(), |version| version.to_string())
        ))),
    }
}

/// Until the process is gone; then every call fails with the reason.
async fn watch_over(
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
fn is_gone(error: &Error) -> bool {
    is_connection_terminated(error) || is_incoming_transport_closed(error)
}

fn untyped(method: &str, params: Value) -> UntypedMessage {
    UntypedMessage { method: method.to_owned(), params }
}

fn last_words(child: &Child) -> String {
    match tail(child) {
        words if words.is_empty() => String::new(),
        words => format!("; its last words: {words}"),
    }
}

fn tail(child: &Child) -> String {
    let words = child.stderr_tail();
    let words = words.trim();
    let begin = words.ceil_char_boundary(words.len().saturating_sub(TAIL_BYTES_MAX));
    words[begin..].to_owned()
}
