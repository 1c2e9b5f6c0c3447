//! Processes that agentpool starts and must never lose: each runs under a shim that outlives us just long enough to
//! end it and everything it started. Knows nothing of agents, turns or databases, and never signals a pid that it
//! has not seen to be its own.

mod cgroup;
mod child;
mod clock;
mod environment;
mod keeper;
mod lifeline;
mod memory;
mod proc_table;
pub mod shim;
mod shims;
mod tail;

pub use cgroup::Limits;
pub use child::{Child, ChildExit};
pub use clock::{BoottimeMs, LeaseClock, Timing, boottime_ms};
pub use environment::Environment;
pub use memory::{Weights, resident_bytes, worked_ticks};
pub use shims::Shims;

use nix::unistd::User;
use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The variable that every child carries and passes on, by which a sweep finds what a dead shim left behind.
pub const MARK_VARIABLE: &str = "AGENTPOOL_MARK";

/// What to run and how to end it.
#[derive(Clone, Debug)]
pub struct ChildSpec {
    /// A word for logs and `ps`.
    pub name: String,
    /// An absolute path, or a bare name that is looked up in the `PATH` of `env`.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// The whole environment; [`MARK_VARIABLE`] is added to it.
    pub env: Environment,
    /// Where it starts: absolute.
    pub cwd: PathBuf,
    /// Whether we speak to it.
    pub stdin: StdinMode,
    /// Another account to run as; needs root.
    pub run_as: Option<Account>,
    /// Which signals ask it to end.
    pub stop: StopPlan,
    /// How long each step of the plan may take before the next. A child that serves leases is given at most
    /// [`Timing::lead_max`] when a deadline passed or we are gone.
    pub grace: Duration,
    /// True when it works under leases: it then ends before the last acknowledged renewal runs out.
    pub serves_leases: bool,
    /// What it may use with everything that it starts, where the system lets us say so; else it runs unlimited and
    /// [`Shims::unheld_limits`] says why.
    pub limits: Limits,
}

/// The child's standard input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StdinMode {
    /// A pipe, taken with [`Child::take_stdin`].
    Piped,
    /// `/dev/null`.
    Null,
}

/// The signals that ask a child to end. KILL to the whole tree always follows when they did not help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopPlan {
    /// TERM, grace, KILL.
    Terminate,
    /// INT (fast shutdown), grace, QUIT (immediate shutdown), grace, KILL.
    PostgresFast,
}

/// A user and group by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    /// User id.
    pub uid: u32,
    /// Primary group id; there are no supplementary ones.
    pub gid: u32,
}

impl Account {
    /// The account for programs that refuse to run as root: `postgres`, else `nobody`, where the system has one.
    pub fn unprivileged() -> Option<Self> {
        ["postgres", "nobody"]
            .into_iter()
            .find_map(|name| User::from_name(name).ok().flatten())
            .map(|user| Self { uid: user.uid.as_raw(), gid: user.gid.as_raw() })
    }

    /// The first folder on the way to and including `path` that this account may not enter, by owner, group and mode
    /// alone. What cannot be looked at counts as closed.
    pub fn first_closed_folder(self, path: &Path) -> Option<&Path> {
        let mut folders =
            path.ancestors().filter(|folder| !folder.as_os_str().is_empty()).collect::<Vec<_>>();
        folders.reverse();
        folders.into_iter().find(|folder| !fs::metadata(folder).is_ok_and(|meta| self.may_enter(&meta)))
    }

    fn may_enter(self, folder: &Metadata) -> bool {
        let bit = match folder {
            _ if self.uid == 0 => return true,
            folder if folder.uid() == self.uid => 0o100,
            folder if folder.gid() == self.gid => 0o010,
            _ => 0o001,
        };
        folder.mode() & bit != 0
    }
}

/// Why a child did not start. Nothing of it is left.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// There is no such program, or the interpreter that its first line names is missing.
    #[error("{program:?} was not found: install it or give its full path")]
    NotFound {
        /// As asked for.
        program: PathBuf,
    },
    /// The program is there but may not be run, or is no program.
    #[error("{program:?} cannot be run: {source}; check its permissions, its type and the folders above it")]
    NotExecutable {
        /// As asked for.
        program: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The working folder is missing or closed to the child's account.
    #[error("the working folder {cwd:?} cannot be used: {source}")]
    Cwd {
        /// As asked for.
        cwd: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// We may not become that account.
    #[error("no right to run as user {uid}: start agentpool as root or leave the account out")]
    Account {
        /// The user asked for.
        uid: u32,
    },
    /// The system is out of processes, memory or descriptors; worth trying again later.
    #[error("the system has no room for another process: {0}")]
    Exhausted(#[source] io::Error),
    /// Our own shim did not come up.
    #[error("the process shim did not start: {0}")]
    Shim(#[source] io::Error),
}
