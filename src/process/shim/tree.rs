//! Collects and kills what descends from this process. Touches nothing that is not below it.

use super::super::child::ChildExit;
use super::super::proc_table::ProcTable;
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::collections::HashSet;

/// More rounds than a tree needs that is not forking on purpose; what escapes them meets the next call.
const ROUNDS_MAX: usize = 16;

/// What one look at our children found.
pub(super) enum Reaped {
    /// This one ended.
    Ended(Pid, ChildExit),
    /// All that are left are alive.
    Nobody,
    /// There are none.
    Empty,
}

/// Collects one child that ended, without waiting.
pub(super) fn reap_one() -> Reaped {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) => return Reaped::Ended(pid, ChildExit::Code(code)),
            Ok(WaitStatus::Signaled(pid, signal, _)) => {
                return Reaped::Ended(pid, ChildExit::Signal(signal as i32));
            }
            Ok(WaitStatus::StillAlive) => return Reaped::Nobody,
            // EINVAL: ended by a real-time signal, which nix has no name for; it is collected all the same.
            Ok(_) | Err(Errno::EINTR | Errno::EINVAL) => {}
            Err(_) => return Reaped::Empty,
        }
    }
}

/// Kills everything below us. All are stopped before the first is killed, so that nobody sees another die and forks.
pub(super) fn kill_all() {
    let mut seen = HashSet::new();
    for _ in 0..ROUNDS_MAX {
        let fresh = descendants().filter(|pid| seen.insert(*pid)).collect::<Vec<_>>();
        if fresh.is_empty() {
            break;
        }
        signal_each(&fresh, Signal::SIGSTOP);
    }
    signal_each(&seen, Signal::SIGKILL);
}

/// An error is no news: it ended meanwhile, or changed its account and is met again in the next round.
fn signal_each<'a>(pids: impl IntoIterator<Item = &'a Pid>, signal: Signal) {
    for &pid in pids {
        let _ = kill(pid, signal);
    }
}

fn descendants() -> impl Iterator<Item = Pid> {
    ProcTable::read().descendants(std::process::id()).into_iter().map(|pid| Pid::from_raw(pid.cast_signed()))
}
