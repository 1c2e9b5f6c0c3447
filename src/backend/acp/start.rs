//! The start of an agent process: spawned under a shim, connected, initialised. What does not get so far is ended.

use super::AcpConfig;
use super::client_side;
use super::lines::{self, Counts};
use super::offers::Capabilities;
use super::process::{Process, describe, is_gone, last_words, untyped, watch_over};
use super::router::Router;
use super::terminals::Terminals;
use crate::backend::circuit::StartError;
use crate::domain::turn::StopForce;
use crate::process::{Child, ChildSpec, Environment, Shims, StdinMode, StopPlan};
use agent_client_protocol::Agent;
use agent_client_protocol::v1::ConnectionTo;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The version that we speak.
const PROTOCOL_VERSION: u64 = 1;
/// How long a process whose connection ended may take to say more.
const LAST_WORDS: Duration = Duration::from_secs(2);

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
    let process =
        Arc::new(Process::new(pid, able, (router, counts), connection, terminals.clone(), begun.elapsed()));
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
    let own = config.env.iter();
    own.fold(config.home.environment(), |env, (name, value)| env.set(name, value))
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
    broken: watch::Receiver<Option<String>>,
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
                // Its exit says more than what our pipes saw of it, and both more than that the connection ended.
                let exit = tokio::time::timeout(LAST_WORDS, child.exited()).await.ok();
                let seen = broken.borrow().clone();
                return Err(failed(match (exit, seen) {
                    (Some(exit), Some(seen)) => format!("it ended with {exit} ({seen})"),
                    (Some(exit), None) => format!("it ended with {exit}"),
                    (None, Some(seen)) => seen,
                    (None, None) => "it closed its output".to_owned(),
                }));
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
