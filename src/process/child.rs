//! The handle of one child. Asks its keeper; signals nothing itself.

use super::tail::Tail;
use crate::domain::turn::StopForce;
use std::fmt;
use std::future::Future;
use std::io::Write;
use std::sync::{Mutex, PoisonError};
use tokio::io::AsyncReadExt;
use tokio::process::{ChildStdin, ChildStdout};
use tokio::runtime::Handle;
use tokio::sync::watch;

/// How the child itself ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChildExit {
    /// It left with this code.
    Code(i32),
    /// A signal of this number ended it.
    Signal(i32),
    /// The system ended it, because it used more memory than its limit.
    OverMemory,
    /// Its shim was lost before it could tell.
    Unknown,
}

impl fmt::Display for ChildExit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => write!(f, "signal {signal}"),
            Self::OverMemory => {
                f.write_str("signal 9: it was killed because it used more than limits.memory_mb")
            }
            Self::Unknown => f.write_str("an unknown end"),
        }
    }
}

/// A running child and its tree. Dropping it ends the tree by its stop plan, as [`Child::stop`] does, without waiting.
pub struct Child {
    pub(super) pid: u32,
    pub(super) stdin: Option<ChildStdin>,
    pub(super) stdout: Mutex<Option<ChildStdout>>,
    pub(super) tail: Tail,
    pub(super) force: watch::Sender<Option<StopForce>>,
    pub(super) state: watch::Receiver<ChildState>,
    pub(super) runtime: Handle,
}

/// What the keeper knows.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ChildState {
    pub(super) exit: Option<ChildExit>,
    pub(super) gone: bool,
}

impl Child {
    /// The pid of the child itself, not of its shim.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The writing end of its standard input, once, where the spec asked for a pipe.
    pub fn take_stdin(&mut self) -> Option<ChildStdin> {
        self.stdin.take()
    }

    /// The reading end of its standard output, once; whoever takes it must read it to the end. Take it before anything
    /// else: the first wait ([`Child::exited`], [`Child::gone`], [`Child::stop`]) begins to throw away what nobody took.
    pub fn take_stdout(&mut self) -> Option<ChildStdout> {
        self.stdout.get_mut().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The last 64 KiB of its standard error, cleaned. It is always read, whether anybody asks or not.
    pub fn stderr_tail(&self) -> String {
        self.tail.read()
    }

    /// Sends its standard error to `sink` as well, beginning with what [`Child::stderr_tail`] holds now. The sink is
    /// written to between two reads and must not block for long; when it fails it is given up.
    pub fn copy_stderr_to(&self, sink: impl Write + Send + 'static) {
        self.tail.copy_to(Box::new(sink));
    }

    /// Resolves as soon as the child itself ended, whoever of its tree still lives or holds its streams. Any number may
    /// wait, before or after. [`Child::stderr_tail`] is complete by then unless somebody still writes to it.
    ///
    /// # Cancel safety
    /// May be dropped at any point.
    pub fn exited(&self) -> impl Future<Output = ChildExit> + Send + 'static {
        self.drain_stdout();
        let mut state = self.state.clone();
        async move {
            let state = state.wait_for(|state| state.exit.is_some()).await;
            state.ok().and_then(|state| state.exit).unwrap_or(ChildExit::Unknown)
        }
    }

    /// Ends the whole tree and returns when nothing of it is left. [`StopForce::Ask`] and [`StopForce::Terminate`] go by
    /// the stop plan; [`StopForce::Kill`] kills at once. May be called again, by several, with more force.
    ///
    /// # Cancel safety
    /// The order stands when the future is dropped.
    pub async fn stop(&self, force: StopForce) {
        self.force.send_if_modified(|standing| {
            let rises = standing.is_none_or(|standing| force > standing);
            if rises {
                *standing = Some(force);
            }
            rises
        });
        self.gone().await;
    }

    /// Returns when the tree is empty and its shim was collected.
    ///
    /// # Cancel safety
    /// May be dropped at any point.
    pub async fn gone(&self) {
        self.drain_stdout();
        // An error means that the keeper's runtime is gone, and the lifeline with it.
        let _ = self.state.clone().wait_for(|state| state.gone).await;
    }

    fn drain_stdout(&self) {
        let untaken = self.stdout.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut stdout) = untaken {
            // Bounded by the life of the tree: its end is the end of the file.
            self.runtime.spawn(async move {
                let mut sink = vec![0; 16 << 10];
                while matches!(stdout.read(&mut sink).await, Ok(length) if length > 0) {}
            });
        }
    }
}

impl fmt::Debug for Child {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Child").field("pid", &self.pid).finish_non_exhaustive()
    }
}
