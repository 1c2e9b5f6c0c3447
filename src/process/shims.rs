//! Starts children under shims and knows which shims are alive. Waits for each in a task of its own, so that none is
//! left a zombie, and holds no child: handles belong to whoever asked.

use super::cgroup::{Group, Groups};
use super::child::{Child, ChildState};
use super::clock::{LeaseClock, Timing};
use super::keeper::{self, Horizon, Keeper, Start};
use super::memory::{self, Weights};
use super::proc_table::ProcTable;
use super::shim::{CHILD_STDERR_FD, CHILD_STDIN_FD, CHILD_STDOUT_FD, Options};
use super::tail::Tail;
use super::{ChildSpec, MARK_VARIABLE, SpawnError, StdinMode};
use command_fds::{CommandFdExt, FdMapping};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::unistd::Pid;
use std::collections::{BTreeSet, HashSet};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use tokio::net::UnixDatagram;
use tokio::process::{ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};

/// How long a shim may take to say that the child runs. Generous: a loaded machine is no reason to give up.
const START_DEADLINE: Duration = Duration::from_secs(30);

/// How often a sweep looks again before it gives up on what cannot be killed.
const SWEEP_ROUNDS_MAX: u32 = 100;

/// The one place that starts long-lived processes. Clones share everything.
#[derive(Clone)]
pub struct Shims {
    inner: Arc<Inner>,
}

struct Inner {
    program: PathBuf,
    mark: String,
    lock: Option<Arc<OwnedFd>>,
    timing: Timing,
    lease_clock: LeaseClock,
    /// Pids of shims not yet collected. Held while one is forked, so that a sweep never meets an unknown one.
    live: Mutex<HashSet<u32>>,
    /// Looked for with the first child that is to be limited.
    groups: OnceLock<Result<Groups, String>>,
    unheld: Mutex<BTreeSet<String>>,
}

/// Our ends of what a shim was given.
struct Ends {
    lifeline: UnixDatagram,
    stdin: Option<ChildStdin>,
    stdout: ChildStdout,
    stderr: ChildStderr,
}

impl Shims {
    /// `program` starts ourselves (`/proc/self/exe`, which survives an upgrade of the file); `mark` tells this data
    /// folder's processes from all others; `lock` is the data folder's flock, which shims keep until they end.
    pub fn new(program: PathBuf, mark: String, lock: Option<Arc<OwnedFd>>) -> Self {
        Self::with_timing(program, mark, lock, Timing::default())
    }

    /// As [`Shims::new`], with other times than the design's.
    pub fn with_timing(program: PathBuf, mark: String, lock: Option<Arc<OwnedFd>>, timing: Timing) -> Self {
        Self {
            inner: Arc::new(Inner {
                program,
                mark,
                lock,
                timing,
                lease_clock: LeaseClock::new(),
                live: Mutex::default(),
                groups: OnceLock::new(),
                unheld: Mutex::default(),
            }),
        }
    }

    /// The clock that children with `serves_leases` live by.
    pub fn lease_clock(&self) -> LeaseClock {
        self.inner.lease_clock.clone()
    }

    /// Starts a child and returns when it runs.
    ///
    /// # Errors
    /// When the child could not be executed, or its shim not be started; nothing of it is left then.
    ///
    /// # Cancel safety
    /// When the future is dropped, what was started is ended.
    pub async fn spawn(&self, spec: ChildSpec) -> Result<Child, SpawnError> {
        let group = self.group_for(&spec);
        let forked = self.fork(&spec, group.clone());
        if let (Err(_), Some(group)) = (&forked, &group) {
            group.remove();
        }
        let (shim, shim_pid, horizon, ends) = forked?;
        let tail = Tail::default();
        let (force, force_seen) = watch::channel(None);
        let (state_told, state) = watch::channel(ChildState::default());
        let (started, start) = oneshot::channel();
        let keeper = Keeper {
            shims: self.clone(),
            name: spec.name.clone(),
            shim,
            shim_pid,
            lifeline: ends.lifeline,
            horizon,
            beat: self.inner.timing.beat,
            force: force_seen,
            state: state_told,
            started: Some(started),
            drain: tokio::spawn(keeper::drain(ends.stderr, tail.clone())),
            group,
        };
        // Counted by `live`; it ends with its shim, which ends with us.
        tokio::spawn(keeper.run());
        let stdout = Mutex::new(Some(ends.stdout));
        let mut child =
            Child { pid: 0, stdin: ends.stdin, stdout, tail, force, state, runtime: Handle::current() };
        child.pid = started_pid(start, &spec).await?;
        tracing::debug!(child = spec.name, pid = child.pid, shim = shim_pid, "child started");
        Ok(child)
    }

    /// Kills everything alive that carries our mark, but for live shims of ours and what is below them: what a killed
    /// shim left behind. Returns when none is found any more, or when what is found cannot be killed.
    ///
    /// # Cancel safety
    /// A round that has begun is finished.
    pub async fn sweep(&self) {
        for round in 0..SWEEP_ROUNDS_MAX {
            let shims = self.clone();
            let found = tokio::task::spawn_blocking(move || shims.kill_strays()).await.unwrap_or_default();
            if found == 0 {
                return;
            }
            tracing::warn!(found, round, "killed processes that a shim had left behind");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        tracing::error!("processes with our mark are left that cannot be killed");
    }

    /// What these children hold, and what was left behind. Reads much of `/proc`: not for an async thread.
    pub fn weigh(&self, children: &[u32]) -> Weights {
        let table = ProcTable::read();
        let live = self.lock_live().clone();
        memory::weigh(&table, children, &live, &self.inner.mark)
    }

    /// How many shims are not yet collected.
    pub fn live(&self) -> usize {
        self.lock_live().len()
    }

    /// Which limits of children are not held on this system and why, in words; nothing while none were asked for.
    pub fn unheld_limits(&self) -> Vec<String> {
        self.lock_unheld().iter().cloned().collect()
    }

    fn group_for(&self, spec: &ChildSpec) -> Option<Group> {
        if spec.limits.is_none() {
            return None;
        }
        match self.inner.groups.get_or_init(Groups::ours) {
            Err(why) => self.limits_are_unheld(format!("limits are not held: {why}")),
            Ok(groups) => match groups.make(&spec.limits) {
                Err(error) => self.limits_are_unheld(format!("limits are not held: {error}")),
                Ok((group, unheld)) => {
                    for key in unheld {
                        let why = "the system delegates no such controller to this service";
                        self.limits_are_unheld(format!("{key} is not held: {why}"));
                    }
                    return Some(group);
                }
            },
        }
        None
    }

    /// Each is told once.
    fn limits_are_unheld(&self, why: String) {
        if self.lock_unheld().insert(why.clone()) {
            tracing::warn!("{why}");
        }
    }

    fn lock_unheld(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.inner.unheld.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn forget(&self, shim_pid: u32) {
        self.lock_live().remove(&shim_pid);
    }

    fn kill_strays(&self) -> usize {
        let live = self.lock_live();
        let ours = live.iter().copied().chain([std::process::id()]).collect();
        // Our own children that are no shims (git and the like) carry no mark.
        let strays = ProcTable::read().strays(&self.inner.mark, &ours);
        for &pid in &strays {
            let _ = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL);
        }
        strays.len()
    }

    fn lock_live(&self) -> MutexGuard<'_, HashSet<u32>> {
        self.inner.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fork(
        &self,
        spec: &ChildSpec,
        group: Option<Group>,
    ) -> Result<(tokio::process::Child, u32, Horizon, Ends), SpawnError> {
        let timing = &self.inner.timing;
        let horizon = Horizon::new(spec, timing, self.lease_clock());
        let options = Options::new(spec, timing, horizon.clock(), horizon.deadline(), group);
        let (mut command, ends) = self.command(spec, &options).map_err(of_our_own)?;
        let mut live = self.lock_live();
        let shim = command.spawn().map_err(of_our_own)?;
        let pid = shim.id().expect("it was not waited for yet");
        live.insert(pid);
        Ok((shim, pid, horizon, ends))
    }

    /// The returned command owns the shim's ends; they close here when it is dropped.
    fn command(&self, spec: &ChildSpec, options: &Options) -> io::Result<(Command, Ends)> {
        let null = || File::options().read(true).write(true).open("/dev/null").map(OwnedFd::from);
        let (ours, theirs) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
        let (stdin_theirs, stdin) = match spec.stdin {
            StdinMode::Null => (null()?, None),
            StdinMode::Piped => {
                let (reader, writer) = io::pipe()?;
                let writer = std::process::ChildStdin::from(OwnedFd::from(writer));
                (reader.into(), Some(ChildStdin::from_std(writer)?))
            }
        };
        let (stdout, stdout_theirs) = io::pipe()?;
        let (stderr, stderr_theirs) = io::pipe()?;
        let lock = match &self.inner.lock {
            Some(lock) => lock.try_clone()?,
            None => null()?,
        };
        let mut command = Command::new(&self.inner.program);
        command
            .arg("shim")
            .args(options.to_args())
            .env_clear()
            .envs(spec.env.vars())
            .env(MARK_VARIABLE, &self.inner.mark)
            .current_dir("/")
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::from(lock))
            .stderr(Stdio::null())
            .process_group(0)
            .fd_mappings(vec![
                FdMapping { parent_fd: stdin_theirs, child_fd: CHILD_STDIN_FD },
                FdMapping { parent_fd: stdout_theirs.into(), child_fd: CHILD_STDOUT_FD },
                FdMapping { parent_fd: stderr_theirs.into(), child_fd: CHILD_STDERR_FD },
            ])
            .map_err(io::Error::other)?;
        let lifeline = std::os::unix::net::UnixDatagram::from(ours);
        lifeline.set_nonblocking(true)?;
        let ends = Ends {
            lifeline: UnixDatagram::from_std(lifeline)?,
            stdin,
            stdout: ChildStdout::from_std(std::process::ChildStdout::from(OwnedFd::from(stdout)))?,
            stderr: ChildStderr::from_std(std::process::ChildStderr::from(OwnedFd::from(stderr)))?,
        };
        Ok((command, ends))
    }
}

async fn started_pid(start: oneshot::Receiver<Start>, spec: &ChildSpec) -> Result<u32, SpawnError> {
    match tokio::time::timeout(START_DEADLINE, start).await {
        Ok(Ok(Ok(pid))) => Ok(pid),
        Ok(Ok(Err(error))) => Err(of_the_child(error, spec)),
        Ok(Err(_)) => Err(SpawnError::Shim(io::ErrorKind::UnexpectedEof.into())),
        Err(_) => Err(SpawnError::Shim(io::ErrorKind::TimedOut.into())),
    }
}

fn is_exhaustion(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::EAGAIN | Errno::ENOMEM | Errno::EMFILE | Errno::ENFILE))
}

fn of_our_own(error: io::Error) -> SpawnError {
    if is_exhaustion(&error) { SpawnError::Exhausted(error) } else { SpawnError::Shim(error) }
}

/// The system gives one number for three steps (account, folder, program): the likeliest is found by looking.
fn of_the_child(error: io::Error, spec: &ChildSpec) -> SpawnError {
    if is_exhaustion(&error) {
        return SpawnError::Exhausted(error);
    }
    let program = spec.program.clone();
    match (error.raw_os_error().map(Errno::from_raw), spec.run_as) {
        (None, _) => SpawnError::Shim(error),
        (Some(Errno::EPERM), Some(account)) => SpawnError::Account { uid: account.uid },
        _ if !can_start_in(&spec.cwd, spec) => SpawnError::Cwd { cwd: spec.cwd.clone(), source: error },
        (Some(Errno::ENOENT), _) => SpawnError::NotFound { program },
        // One closed folder in PATH is enough for the system to say "permission denied" of a program that is nowhere.
        (Some(Errno::EACCES), _) if is_nowhere_in_path(spec) => SpawnError::NotFound { program },
        (Some(_), _) => SpawnError::NotExecutable { program, source: error },
    }
}

fn can_start_in(cwd: &Path, spec: &ChildSpec) -> bool {
    cwd.is_dir() && spec.run_as.is_none_or(|account| account.first_closed_folder(cwd).is_none())
}

fn is_nowhere_in_path(spec: &ChildSpec) -> bool {
    let is_bare = spec.program.components().count() == 1 && !spec.program.is_absolute();
    let path = spec.env.get("PATH").unwrap_or_default();
    is_bare && !std::env::split_paths(path).any(|folder| folder.join(&spec.program).exists())
}
