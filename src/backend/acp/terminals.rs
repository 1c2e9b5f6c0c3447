//! Commands that an agent runs through us: each under a shim, in the conversation's worktree, its output bounded. They end with
//! the agent's process.

use super::AcpConfig;
use crate::backend::confined;
use crate::domain::text;
use crate::domain::turn::StopForce;
use crate::process::{Child, ChildExit, ChildSpec, Environment, Limits, Shims, StdinMode, StopPlan};
use agent_client_protocol::Error;
use agent_client_protocol::v1::schema::{
    CreateTerminalRequest, SessionId, TerminalExitStatus, TerminalId, TerminalOutputResponse,
};
use std::collections::{HashMap, VecDeque};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio_util::task::TaskTracker;

/// Terminals that an agent may have at once.
const OPEN_MAX: usize = 32;
/// Output that is kept of each, in bytes, whatever the agent asks for.
const OUTPUT_BYTES_MAX: usize = 1 << 20;
/// Between TERM and KILL.
const GRACE: Duration = Duration::from_secs(1);

/// The terminals of an agent's process. Cheap to clone.
#[derive(Clone)]
pub(super) struct Terminals {
    agent: String,
    limits: Limits,
    env: Environment,
    shims: Shims,
    tracker: TaskTracker,
    open: Arc<Mutex<HashMap<String, Arc<Terminal>>>>,
}

struct Terminal {
    owner: String,
    child: Child,
    output: Output,
}

/// The end of what a command wrote, to either stream.
#[derive(Clone)]
struct Output(Arc<Mutex<Kept>>);

struct Kept {
    bytes: VecDeque<u8>,
    limit: usize,
    truncated: bool,
}

impl Terminals {
    pub(super) fn new(config: &AcpConfig, env: Environment, shims: Shims, tracker: TaskTracker) -> Self {
        let (agent, limits) = (config.name.clone(), config.limits);
        Self { agent, limits, env, shims, tracker, open: Arc::default() }
    }

    /// Starts a command; where it names no arguments, a shell reads it, as agents expect.
    pub(super) async fn create(
        &self,
        worktree: &Path,
        request: CreateTerminalRequest,
    ) -> Result<TerminalId, Error> {
        if self.open().len() >= OPEN_MAX {
            return Err(Error::invalid_params().data(format!("{OPEN_MAX} terminals are open: release one")));
        }
        let cwd = folder(worktree, request.cwd)?;
        let mut env = self.env.clone();
        for variable in request.env {
            env = env.set(variable.name, variable.value);
        }
        let (program, args) = if request.args.is_empty() {
            (PathBuf::from("/bin/sh"), vec!["-c".into(), request.command.into()])
        } else {
            (PathBuf::from(request.command), request.args.into_iter().map(Into::into).collect())
        };
        let spec = ChildSpec {
            name: format!("terminal of {}", self.agent),
            program,
            args,
            env,
            cwd,
            stdin: StdinMode::Null,
            run_as: None,
            stop: StopPlan::Terminate,
            grace: GRACE,
            serves_leases: true,
            limits: self.limits,
        };
        let mut child =
            self.shims.spawn(spec).await.map_err(|error| Error::internal_error().data(error.to_string()))?;
        let limit = request.output_byte_limit.map_or(OUTPUT_BYTES_MAX, |limit| {
            usize::try_from(limit).unwrap_or(OUTPUT_BYTES_MAX).min(OUTPUT_BYTES_MAX)
        });
        let output = Output(Arc::new(Mutex::new(Kept { bytes: VecDeque::new(), limit, truncated: false })));
        child.copy_stderr_to(output.clone());
        if let Some(mut stdout) = child.take_stdout() {
            let mut output = output.clone();
            // It ends with the command's tree.
            self.tracker.spawn(async move {
                let mut chunk = vec![0; 16 << 10];
                while let Ok(length @ 1..) = stdout.read(&mut chunk).await {
                    let _ = output.write(&chunk[..length]);
                }
            });
        }
        let id = format!("term-{}", uuid::Uuid::new_v4().simple());
        let terminal = Arc::new(Terminal { owner: request.session_id.0.to_string(), child, output });
        self.open().insert(id.clone(), terminal);
        Ok(TerminalId::new(id))
    }

    pub(super) fn output(&self, owner: &SessionId, id: &TerminalId) -> Result<TerminalOutputResponse, Error> {
        let terminal = self.find(owner, id)?;
        let kept = lock(&terminal.output.0);
        let bytes: Vec<u8> = kept.bytes.iter().copied().collect();
        let response = TerminalOutputResponse::new(text::clean_bytes(&bytes), kept.truncated);
        let exit = futures::FutureExt::now_or_never(terminal.child.exited());
        Ok(match exit {
            Some(exit) => response.exit_status(status(exit)),
            None => response,
        })
    }

    pub(super) async fn exit(&self, owner: &SessionId, id: &TerminalId) -> Result<TerminalExitStatus, Error> {
        let terminal = self.find(owner, id)?;
        Ok(status(terminal.child.exited().await))
    }

    pub(super) async fn kill(&self, owner: &SessionId, id: &TerminalId) -> Result<(), Error> {
        self.find(owner, id)?.child.stop(StopForce::Terminate).await;
        Ok(())
    }

    pub(super) async fn release(&self, owner: &SessionId, id: &TerminalId) -> Result<(), Error> {
        let terminal = self.find(owner, id)?;
        self.open().remove(&*id.0);
        terminal.child.stop(StopForce::Kill).await;
        Ok(())
    }

    /// Ends them all; returns when nothing is left of them.
    pub(super) async fn end(&self) {
        let all: Vec<_> = self.open().drain().map(|(_, terminal)| terminal).collect();
        futures::future::join_all(all.iter().map(|terminal| terminal.child.stop(StopForce::Kill))).await;
    }

    /// The processes that run in them.
    pub(super) fn pids(&self) -> Vec<u32> {
        self.open().values().map(|terminal| terminal.child.pid()).collect()
    }

    /// A terminal is its conversation's alone.
    fn find(&self, owner: &SessionId, id: &TerminalId) -> Result<Arc<Terminal>, Error> {
        let found = self.open().get(&*id.0).filter(|terminal| terminal.owner == *owner.0).cloned();
        found.ok_or_else(|| Error::invalid_params().data(format!("there is no terminal {}", id.0)))
    }

    fn open(&self) -> MutexGuard<'_, HashMap<String, Arc<Terminal>>> {
        lock(&self.open)
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut kept = lock(&self.0);
        kept.bytes.extend(bytes);
        let surplus = kept.bytes.len().saturating_sub(kept.limit);
        if surplus > 0 {
            kept.bytes.drain(..surplus);
            kept.truncated = true;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Where the command runs: within the worktree, links followed.
fn folder(worktree: &Path, asked: Option<PathBuf>) -> Result<PathBuf, Error> {
    let Some(asked) = asked else { return Ok(worktree.to_owned()) };
    confined::folder(worktree, &asked).map_err(|refused| Error::invalid_params().data(refused.to_string()))
}

fn status(exit: ChildExit) -> TerminalExitStatus {
    match exit {
        ChildExit::Code(code) => TerminalExitStatus::new().exit_code(u32::try_from(code).ok()),
        ChildExit::Signal(signal) => TerminalExitStatus::new().signal(signal.to_string()),
        ChildExit::OverMemory => TerminalExitStatus::new().signal("9".to_owned()),
        ChildExit::Unknown => TerminalExitStatus::new(),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Neither a map nor a ring can be left half-changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
