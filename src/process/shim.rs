//! The shim: a small process between us and one child, which sees to it that nothing of the child's tree outlives us.
//! Runs without tokio, knows nothing of what the child is, and never decides to stop it but on an order, a deadline or
//! our end.
//!
//! What it is given: standard input is the lifeline, standard output the lock of the data folder; 3, 4 and 5 are the
//! child's three streams. They are taken over through the standard handles and `/proc/self/fd`, because adopting a bare
//! number needs unsafe code. It leaves with 0 when no descendant is left, and only then.

mod options;
mod tree;

use super::cgroup::Group;
use super::child::ChildExit;
use super::clock::{Clock, millis};
use super::lifeline::{Order, PACKET_BYTES_MAX, Report};
use super::{Account, StopPlan};
use crate::domain::turn::StopForce;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::{self, Pid};
pub(super) use options::Options;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

/// Where we put the child's streams for the shim to find.
pub(super) const CHILD_STDIN_FD: RawFd = 3;
/// See [`CHILD_STDIN_FD`].
pub(super) const CHILD_STDOUT_FD: RawFd = 4;
/// See [`CHILD_STDIN_FD`].
pub(super) const CHILD_STDERR_FD: RawFd = 5;

/// What the shim is deaf to: a `^C`, a hang-up or a service manager's TERM is for us; we then tell the shim.
const DEAF_TO: [Signal; 6] =
    [Signal::SIGINT, Signal::SIGHUP, Signal::SIGTERM, Signal::SIGQUIT, Signal::SIGUSR1, Signal::SIGUSR2];

/// Runs `agentpool shim …`; `args` are what follows the word `shim`. For agentpool's own use.
pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    match Options::parse(args).and_then(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Standard error is `/dev/null` under agentpool; this is for a person who tries the command by hand.
            eprintln!("agentpool shim: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: Options) -> io::Result<()> {
    close_strays()?;
    prctl::set_child_subreaper(true)?;
    let lifeline = UnixDatagram::from(io::stdin().as_fd().try_clone_to_owned()?);
    lifeline.set_nonblocking(true)?;
    // A clone is the same open file and so the same flock, but is closed when the child is executed.
    let _lock = io::stdout().as_fd().try_clone_to_owned()?;
    let null = File::options().read(true).write(true).open("/dev/null")?;
    unistd::dup2_stdin(&null)?;
    unistd::dup2_stdout(&null)?;
    match start(&options)? {
        Ok(leader) => {
            let signals = block_signals()?;
            let report = Report::Started { pid: leader.as_raw().unsigned_abs() };
            send(&lifeline, report);
            Watch::new(options, leader, lifeline).until_empty(&signals)
        }
        Err(error) => {
            send(&lifeline, Report::Failed { errno: error.raw_os_error().unwrap_or(Errno::EINVAL as i32) });
            Ok(())
        }
    }
}

/// Only after the child was started, because it would inherit the mask (or, were they ignored, that). A signal in the
/// millisecond before ends us with the child alive: our owner then sweeps.
fn block_signals() -> io::Result<SignalFd> {
    let mut set = SigSet::empty();
    DEAF_TO.into_iter().chain([Signal::SIGCHLD]).for_each(|signal| set.add(signal));
    set.thread_block()?;
    Ok(SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?)
}

/// The outer error is the shim's own, the inner one the child's.
fn start(options: &Options) -> io::Result<io::Result<Pid>> {
    let mut command = Command::new(&options.program);
    command
        .args(&options.args)
        .current_dir(&options.cwd)
        .stdin(Stdio::from(adopt(CHILD_STDIN_FD, File::options().read(true))?))
        .stdout(Stdio::from(adopt(CHILD_STDOUT_FD, File::options().write(true))?))
        .stderr(Stdio::from(adopt(CHILD_STDERR_FD, File::options().write(true))?))
        // A group of its own, so that a child which signals its whole group does not hit the shim.
        .process_group(0);
    if let Some(Account { uid, gid }) = options.run_as {
        command.uid(uid).gid(gid);
    }
    // A child begins where its parent is: so we are in its group for that moment, and then outside of its limits again.
    if let Some(group) = &options.group {
        group.join()?;
    }
    // With the command go our ends of the child's streams: only the child's tree holds them from here on.
    let started = command.spawn().map(|child| Pid::from_raw(child.id().cast_signed()));
    if let Some(group) = &options.group {
        group.leave()?;
        if started.is_err() {
            group.remove();
        }
    }
    Ok(started)
}

/// Closes what a careless ancestor left open for all its descendants: it is no business of the child's. The first thing we
/// do, while nothing in this process owns a descriptor beyond those that we know by number.
fn close_strays() -> io::Result<()> {
    let numbers = fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<RawFd>().ok())
        .filter(|&fd| fd > CHILD_STDERR_FD)
        .collect::<Vec<_>>();
    // One of them was the folder itself, closed by now.
    for fd in numbers {
        let _ = unistd::close(fd);
    }
    Ok(())
}

/// Opens a stream that was handed down by number anew, for us alone, and closes the number.
fn adopt(fd: RawFd, how: &OpenOptions) -> io::Result<OwnedFd> {
    let file = how.open(format!("/proc/self/fd/{fd}"))?;
    unistd::close(fd)?;
    Ok(file.into())
}

/// Never blocks and never fails: an owner who is gone or does not read needs no answer.
fn send(lifeline: &UnixDatagram, report: Report) {
    let _ = lifeline.send(report.encode().as_bytes());
}

/// How far the end has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The child may live.
    Watching,
    /// It was asked by step `step` of its plan and has until `next_at`; a further step has `grace_ms`.
    Asked { step: usize, next_at: i64, grace_ms: i64 },
    /// Whatever is left is killed.
    Killing { pause_ms: u16 },
}

struct Watch {
    clock: Clock,
    steps: &'static [Signal],
    grace_ms: i64,
    hurried_grace_ms: i64,
    deadline: i64,
    leader: Option<Pid>,
    group: Option<Group>,
    lifeline: UnixDatagram,
    owner_lives: bool,
    stage: Stage,
}

impl Watch {
    fn new(options: Options, leader: Pid, lifeline: UnixDatagram) -> Self {
        Self {
            clock: options.clock,
            steps: match options.stop {
                StopPlan::Terminate => &[Signal::SIGTERM],
                StopPlan::PostgresFast => &[Signal::SIGINT, Signal::SIGQUIT],
            },
            grace_ms: millis(options.grace),
            hurried_grace_ms: millis(options.hurried_grace),
            deadline: options.deadline,
            leader: Some(leader),
            group: options.group,
            lifeline,
            owner_lives: true,
            stage: Stage::Watching,
        }
    }

    fn until_empty(mut self, signals: &SignalFd) -> io::Result<()> {
        loop {
            if self.reap() {
                if let Some(group) = &self.group {
                    group.remove();
                }
                return Ok(());
            }
            self.obey();
            let now = self.clock.now_ms();
            self.advance(now);
            self.wait(signals, now)?;
        }
    }

    /// Collects what ended, reports the child itself, and answers whether nobody is left. As we are the subreaper, any
    /// living descendant hangs below a child of ours: no child means an empty tree.
    fn reap(&mut self) -> bool {
        loop {
            match tree::reap_one() {
                tree::Reaped::Ended(pid, exit) if self.leader == Some(pid) => self.leader_ended(exit),
                tree::Reaped::Ended(..) => {}
                tree::Reaped::Nobody => return false,
                tree::Reaped::Empty => {
                    self.leader_ended(ChildExit::Unknown);
                    return true;
                }
            }
        }
    }

    fn leader_ended(&mut self, exit: ChildExit) {
        if self.leader.take().is_some() {
            let over_memory = self.group.as_ref().is_some_and(Group::was_over_memory);
            let exit = match exit {
                ChildExit::Signal(signal) if over_memory && signal == Signal::SIGKILL as i32 => {
                    ChildExit::OverMemory
                }
                other => other,
            };
            send(&self.lifeline, Report::Exited(exit));
            self.stage = Stage::Killing { pause_ms: 1 };
        }
    }

    /// Reads every order that has come.
    fn obey(&mut self) {
        let mut packet = [0; PACKET_BYTES_MAX];
        while self.owner_lives {
            match self.lifeline.recv(&mut packet) {
                Ok(0) => self.owner_lives = false,
                Ok(length) => match Order::decode(&packet[..length]) {
                    Some(Order::Until(deadline)) => self.deadline = deadline,
                    Some(Order::Stop(StopForce::Kill)) => self.kill_from_now(),
                    Some(Order::Stop(StopForce::Ask | StopForce::Terminate)) => self.ask(self.grace_ms),
                    None => {}
                },
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => self.owner_lives = false,
            }
        }
    }

    /// Moves on when it is time to.
    fn advance(&mut self, now: i64) {
        if !self.owner_lives || now >= self.deadline {
            self.ask(self.hurried_grace_ms);
        }
        if let Stage::Asked { step, next_at, grace_ms } = self.stage
            && now >= next_at
        {
            if step + 1 < self.steps.len() {
                self.take_step(step + 1, grace_ms);
            } else {
                self.kill_from_now();
            }
        }
        if let Stage::Killing { pause_ms } = self.stage {
            tree::kill_all();
            if let Some(group) = &self.group {
                group.kill();
            }
            self.stage = Stage::Killing { pause_ms: (pause_ms * 2).min(200) };
        }
    }

    /// Begins the plan, or shortens the wait of one begun; never lengthens it.
    fn ask(&mut self, grace_ms: i64) {
        match &mut self.stage {
            Stage::Watching => self.take_step(0, grace_ms),
            Stage::Asked { next_at, grace_ms: standing, .. } => {
                *standing = grace_ms.min(*standing);
                *next_at = self.clock.now_ms().saturating_add(grace_ms).min(*next_at);
            }
            Stage::Killing { .. } => {}
        }
    }

    fn take_step(&mut self, step: usize, grace_ms: i64) {
        if let Some(leader) = self.leader {
            // Not yet reaped, hence still this child and no other process of the same number.
            let _ = kill(leader, self.steps[step]);
            // A child that somebody stopped would never hear of it.
            let _ = kill(leader, Signal::SIGCONT);
        }
        let next_at = self.clock.now_ms().saturating_add(grace_ms);
        self.stage = Stage::Asked { step, next_at, grace_ms };
    }

    fn kill_from_now(&mut self) {
        if !matches!(self.stage, Stage::Killing { .. }) {
            self.stage = Stage::Killing { pause_ms: 1 };
        }
    }

    /// Sleeps until a child ends, an order comes or time is up. A second at most: the timer stands still in a suspend.
    fn wait(&self, signals: &SignalFd, now: i64) -> io::Result<()> {
        let pause_ms = match self.stage {
            Stage::Watching => self.deadline.saturating_sub(now).clamp(0, 1000),
            Stage::Asked { next_at, .. } => next_at.saturating_sub(now).clamp(0, 1000),
            Stage::Killing { pause_ms } => i64::from(pause_ms),
        };
        let timeout = PollTimeout::try_from(Duration::from_millis(pause_ms.unsigned_abs() + 1))
            .expect("a second fits into a poll timeout");
        let mut watched = vec![PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        if self.owner_lives {
            watched.push(PollFd::new(self.lifeline.as_fd(), PollFlags::POLLIN));
        }
        match nix::poll::poll(&mut watched, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        while let Ok(Some(_)) = signals.read_signal() {}
        Ok(())
    }
}
