//! One running opencode server: started, proven ready, watched to its end. Never decides to start another.

use super::OpencodeConfig;
use super::choices::Catalogue;
use super::client::{CALL_DEADLINE, CallError, Client, Password};
use super::environment::environment;
use super::known::Known;
use super::patience::Patience;
use super::pulse;
use super::stream::{self, Routes};
use crate::backend::BackendError;
use crate::backend::circuit::StartError;
use crate::domain::turn::StopForce;
use crate::process::{Child, ChildSpec, Shims, StdinMode, StopPlan};
use reqwest::StatusCode;
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::sync::{OwnedMutexGuard, watch};
use tokio_util::task::TaskTracker;

/// After this, what opencode offers is asked again.
const CATALOGUE_AGE_MAX: Duration = Duration::from_secs(60);
/// Told with a start that failed.
const CHECK: &str = "`agentpool doctor` tries it and says what is missing";
const LISTENING: &str = "opencode server listening on http://";
/// How long a turn waits for the one before it in the same conversation: more than an abandoned one takes to be stopped, the
/// deadlines of its calls included.
const LANE_DEADLINE: Duration = Duration::from_secs(60);

/// A server that answers.
pub(super) struct Server {
    pub client: Client,
    pub port: u16,
    pub pid: u32,
    pub version: String,
    pub routes: Arc<Routes>,
    /// Everything that runs on its behalf; awaited when the backend is disposed.
    pub tracker: TaskTracker,
    /// Whoever works with it: it is not ended for its size while anybody does. Closed from the start, so that waiting for
    /// it ends whenever nobody is left.
    pub users: TaskTracker,
    /// Conversations that were opened on this very server.
    pub known: Known,
    /// What is offered in a directory, and since when we know.
    catalogues: Mutex<HashMap<String, (Instant, Arc<Catalogue>)>>,
    /// One turn at a time in a conversation: opencode would fold two prompts into one run.
    lanes: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
    lost: watch::Sender<Option<String>>,
}

impl Server {
    /// Resolves, with the reason, when the server is gone.
    ///
    /// # Cancel safety
    /// May be dropped at any point.
    pub async fn lost(&self) -> String {
        let mut lost = self.lost.subscribe();
        match lost.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            Err(_) => "opencode is gone".to_owned(),
        }
    }

    /// True when the server is gone.
    pub fn is_lost(&self) -> bool {
        self.lost.borrow().is_some()
    }

    /// Runs a call, unless the server is lost first.
    ///
    /// # Errors
    /// [`BackendError::Lost`], or what the call came to.
    pub async fn unless_lost<T>(
        &self,
        call: impl Future<Output = Result<T, CallError>>,
    ) -> Result<Result<T, CallError>, BackendError> {
        tokio::select! {
            biased;
            reason = self.lost() => Err(BackendError::Lost(reason)),
            result = call => Ok(result),
        }
    }

    /// What opencode offers in a directory; at most a minute old, so that a turn need not ask each time.
    ///
    /// # Errors
    /// When it does not tell.
    pub async fn catalogue(&self, directory: &str) -> Result<Arc<Catalogue>, BackendError> {
        let known = self.catalogues.lock().unwrap_or_else(PoisonError::into_inner).get(directory).cloned();
        if let Some((since, catalogue)) = known
            && since.elapsed() < CATALOGUE_AGE_MAX
        {
            return Ok(catalogue);
        }
        let catalogue = Arc::new(self.unless_lost(Catalogue::read(&self.client, directory)).await??);
        let mut catalogues = self.catalogues.lock().unwrap_or_else(PoisonError::into_inner);
        catalogues.retain(|_, (since, _)| since.elapsed() < CATALOGUE_AGE_MAX);
        catalogues.insert(directory.to_owned(), (Instant::now(), Arc::clone(&catalogue)));
        Ok(catalogue)
    }

    /// The right to run a turn in a conversation. Held until an abandoned turn is stopped, too: an abort names the
    /// conversation only and would hit the next turn.
    pub async fn lane(&self, session: &str) -> Result<OwnedMutexGuard<()>, BackendError> {
        let lane = {
            let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
            lanes.retain(|_, lane| Arc::strong_count(lane) > 1);
            Arc::clone(lanes.entry(session.to_owned()).or_default())
        };
        tokio::time::timeout(LANE_DEADLINE, lane.lock_owned())
            .await
            .map_err(|_| BackendError::Lost(format!("the turn before still runs in {session}")))
    }

    /// True while a turn runs or is being stopped.
    pub fn is_running(&self, session: &str) -> bool {
        let lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        lanes.get(session).is_some_and(|lane| lane.try_lock().is_err())
    }

    /// Count of turns that run.
    pub fn turns(&self) -> usize {
        let lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        lanes.values().filter(|lane| lane.try_lock().is_err()).count()
    }
}

/// Starts a server and returns when it is ready: it told its port, answers with the password, and refuses without.
///
/// # Errors
/// When it could not be started, ended, was not ready within the deadline, is of another version, or `stop` was asked.
/// Nothing of it is left then.
///
/// # Cancel safety
/// Dropping the future ends what was started, without waiting.
pub(super) async fn start(
    config: &OpencodeConfig,
    shims: &Shims,
    tracker: &TaskTracker,
    stop: &mut watch::Receiver<Option<StopForce>>,
) -> Result<(Server, Child), StartError> {
    let password = Password::random();
    let spec = ChildSpec {
        name: "opencode".to_owned(),
        program: config.program.clone(),
        args: ["serve", "--hostname", "127.0.0.1", "--port", "0"].map(Into::into).to_vec(),
        env: environment(config, &password)?,
        cwd: config.cwd.clone(),
        stdin: StdinMode::Null,
        run_as: None,
        stop: StopPlan::Terminate,
        grace: config.grace,
        serves_leases: true,
        limits: config.limits,
    };
    let mut child = shims.spawn(spec).await.map_err(|error| StartError::Failed(error.to_string()))?;
    let stdout = child.take_stdout();
    let ready = async {
        let port = read_port(stdout, tracker).await?;
        let client = Client::new(port, password)
            .map_err(|error| StartError::Failed(format!("no HTTP client could be made: {error}")))?;
        let version = check(&client).await?;
        Ok((client, port, version))
    };
    let failed = |cause: String| Err(StartError::Failed(cause));
    let ready = tokio::select! {
        ready = ready => ready,
        exit = child.exited() => {
            failed(format!("opencode ended with {exit} before it was ready: {}; {CHECK}", tail(&child)))
        }
        () = tokio::time::sleep(config.start_deadline) => {
            let waited = config.start_deadline.as_secs_f32();
            failed(format!("opencode was not ready within {waited} s: {}; {CHECK}", tail(&child)))
        }
        () = asked(stop, StopForce::Ask) => failed("opencode was stopped while it started".to_owned()),
    };
    let (client, port, version) = match ready {
        Ok(ready) => ready,
        Err(error) => {
            end(&child, StopForce::Terminate, stop).await;
            return Err(error);
        }
    };
    let users = TaskTracker::new();
    users.close();
    let server = Server {
        client,
        port,
        pid: child.pid(),
        version,
        routes: Routes::new(),
        tracker: tracker.clone(),
        users,
        known: Known::default(),
        catalogues: Mutex::default(),
        lanes: Mutex::default(),
        lost: watch::Sender::new(None),
    };
    Ok((server, child))
}

/// Watches a server to its end and returns why it ended; nothing of it is left then. `stop` ends it, and so does
/// `worn_out`, which resolves with its size in bytes when nobody uses it and nobody can come to.
pub(super) async fn watch(
    server: &Server,
    child: Child,
    patience: &Patience,
    mut stop: watch::Receiver<Option<StopForce>>,
    worn_out: impl Future<Output = u64>,
) -> Ended {
    let ended = tokio::select! {
        exit = child.exited() => Ended::Lost(format!("opencode ended with {exit}: {}", tail(&child))),
        cause = pulse::lost(server, patience) => {
            Ended::Lost(format!("opencode does not answer: {cause}"))
        }
        never = stream::run(&server.client, &server.routes, patience.stream_silence) => match never {},
        () = asked(&mut stop, StopForce::Ask) => Ended::Stopped,
        bytes = worn_out => Ended::WornOut { bytes },
    };
    let (reason, force) = match &ended {
        Ended::Lost(reason) => (reason.clone(), StopForce::Kill),
        Ended::Stopped => ("opencode was stopped".to_owned(), StopForce::Terminate),
        Ended::WornOut { .. } => ("opencode was ended for its size".to_owned(), StopForce::Terminate),
    };
    server.lost.send_replace(Some(reason));
    end(&child, force, &mut stop).await;
    ended
}

/// Ends a child and its tree, by force as soon as force is asked for.
async fn end(child: &Child, force: StopForce, stop: &mut watch::Receiver<Option<StopForce>>) {
    tokio::select! {
        () = child.stop(force) => {}
        () = asked(stop, StopForce::Kill) => child.stop(StopForce::Kill).await,
    }
}

/// Resolves when a stop of that force was asked; never, if nobody can ask any more.
pub(super) async fn asked(stop: &mut watch::Receiver<Option<StopForce>>, least: StopForce) {
    if stop.wait_for(|force| force.is_some_and(|force| force >= least)).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// How a server came to its end.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// By itself.
    Lost(String),
    /// Because we said so.
    Stopped,
    /// Because it held too much memory.
    WornOut { bytes: u64 },
}

/// Reads lines to the one that tells the port, and goes on draining: a full pipe would block the server.
async fn read_port(
    stdout: Option<impl AsyncRead + Send + Unpin + 'static>,
    tracker: &TaskTracker,
) -> Result<u16, StartError> {
    let stdout = stdout.ok_or_else(|| StartError::Failed("opencode has no standard output".to_owned()))?;
    let mut lines = BufReader::new(stdout);
    let mut line = String::new();
    loop {
        line.clear();
        // A line is bounded: a program that is not opencode may print anything.
        let length = (&mut lines).take(64 << 10).read_line(&mut line).await;
        match length {
            // Most likely it has ended: that says more, and is told in a moment. Else the deadline of the start is.
            Ok(0) => std::future::pending().await,
            Ok(_) => {}
            Err(error) => {
                return Err(StartError::Failed(format!("the output of opencode cannot be read: {error}")));
            }
        }
        if let Some(port) = port_of(&line) {
            tracker.spawn(async move {
                // Ends with the server, at the end of the file or of the pipe.
                let _ = tokio::io::copy_buf(&mut lines, &mut tokio::io::sink()).await;
            });
            return Ok(port);
        }
    }
}

fn port_of(line: &str) -> Option<u16> {
    let address = line.trim().strip_prefix(LISTENING)?;
    address.trim_end_matches('/').rsplit(':').next()?.parse().ok()
}

/// The version, if the server is healthy, supported and closed to those without the password.
async fn check(client: &Client) -> Result<String, StartError> {
    let health = client.health(CALL_DEADLINE).await.map_err(|error| match error {
        CallError::Unanswered { .. } => StartError::Failed(error.to_string()),
        CallError::Status { .. } | CallError::Shape { .. } => {
            StartError::Incompatible(format!("{error}; {}", wanted()))
        }
    })?;
    if !is_supported(&health.version) {
        return Err(StartError::Incompatible(format!("this is opencode {}; {}", health.version, wanted())));
    }
    if !health.healthy {
        return Err(StartError::Failed("opencode says that it is not healthy".to_owned()));
    }
    match client.health_without_password().await {
        Ok(StatusCode::UNAUTHORIZED) => Ok(health.version),
        Ok(status) => Err(StartError::Incompatible(format!(
            "opencode serves everyone on this machine: without the password it answered {status} in place of 401; {}",
            wanted()
        ))),
        Err(error) => Err(StartError::Failed(error.to_string())),
    }
}

fn wanted() -> &'static str {
    "versions from 1.18 up to, not including, 2 are supported: install opencode-ai@1.18.33"
}

fn is_supported(version: &str) -> bool {
    let mut numbers = version.trim_start_matches('v').split(['.', '-', '+']).map(str::parse::<u32>);
    matches!((numbers.next(), numbers.next()), (Some(Ok(1)), Some(Ok(minor))) if minor >= 18)
}

fn tail(child: &Child) -> String {
    let tail = child.stderr_tail();
    if tail.trim().is_empty() {
        "it wrote nothing to its error output".to_owned()
    } else {
        tail.trim().to_owned()
    }
}

/// A worktree as opencode's `directory`.
///
/// # Errors
/// When the path is not UTF-8: opencode could not be told it.
pub(super) fn directory_of(worktree: &Path) -> Result<String, BackendError> {
    worktree.to_str().map(str::to_owned).ok_or_else(|| {
        BackendError::Incompatible(format!(
            "opencode takes UTF-8 paths only, and {worktree:?} is none: move the worktree"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_versions_that_were_tried_are_supported() {
        for (version, expected) in
            [("1.18.33", true), ("1.18.0", true), ("1.40.2-beta", true), ("v1.19.0", true)]
                .into_iter()
                .chain([("1.17.9", false), ("2.0.0", false), ("", false), ("local", false)])
        {
            assert_eq!(is_supported(version), expected, "{version}");
        }
    }

    #[test]
    fn the_port_is_read_from_the_line() {
        assert_eq!(port_of("opencode server listening on http://127.0.0.1:4096\n"), Some(4096));
        assert_eq!(port_of("Warning: something http://127.0.0.1:1"), None);
    }
}
