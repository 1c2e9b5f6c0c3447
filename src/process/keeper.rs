//! The life of one shim as seen from our side: beats down, reports up, orders on, and the shim collected at the end.
//! Decides nothing: when to stop is its owner's business, how is the shim's.

use super::ChildSpec;
use super::cgroup::Group;
use super::child::{ChildExit, ChildState};
use super::clock::{Clock, LeaseClock, Timing, millis};
use super::lifeline::{Order, PACKET_BYTES_MAX, Report};
use super::shims::Shims;
use super::tail::Tail;
use crate::domain::turn::StopForce;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io;
use std::net::Shutdown;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::UnixDatagram;
use tokio::process::ChildStderr;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

/// How long an ended child's last words are waited for while others still hold its standard error.
const LAST_WORDS: Duration = Duration::from_millis(50);

/// How long the packets of a shim that ended may take to be read: they are there already.
const LAST_PACKETS: Duration = Duration::from_secs(1);

/// Works out until when a child may live without another word from us.
#[derive(Clone, Debug)]
pub(super) struct Horizon {
    clock: Clock,
    lease: Option<LeaseClock>,
    good_for_ms: i64,
    lead_ms: i64,
}

impl Horizon {
    pub(super) fn new(spec: &ChildSpec, timing: &Timing, lease: LeaseClock) -> Self {
        Self {
            clock: if spec.serves_leases { Clock::Boottime } else { Clock::Monotonic },
            lease: spec.serves_leases.then_some(lease),
            good_for_ms: millis(timing.good_for),
            lead_ms: millis(spec.grace.min(timing.lead_max)),
        }
    }

    pub(super) fn clock(&self) -> Clock {
        self.clock
    }

    /// When stopping must begin so that the tree is gone when its time is up.
    pub(super) fn deadline(&self) -> i64 {
        let lease = self.lease.as_ref().and_then(LeaseClock::deadline);
        lease.unwrap_or_else(|| self.clock.now_ms().saturating_add(self.good_for_ms)) - self.lead_ms
    }
}

/// What the shim says first: the child's pid, or the system's reason why there is none.
pub(super) type Start = Result<u32, io::Error>;

/// One shim and everything that we hold of it.
pub(super) struct Keeper {
    pub(super) shims: Shims,
    pub(super) name: String,
    pub(super) shim: tokio::process::Child,
    pub(super) shim_pid: u32,
    pub(super) lifeline: UnixDatagram,
    pub(super) horizon: Horizon,
    pub(super) beat: Duration,
    pub(super) force: watch::Receiver<Option<StopForce>>,
    pub(super) state: watch::Sender<ChildState>,
    pub(super) started: Option<oneshot::Sender<Start>>,
    pub(super) drain: JoinHandle<()>,
    /// Its shim takes it away; this is for one that was lost.
    pub(super) group: Option<Group>,
}

impl Keeper {
    /// Runs until the shim was collected. Ends by itself: the shim follows us, or its lifeline.
    pub(super) async fn run(mut self) {
        let mut beats = tokio::time::interval(self.beat);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut owned = true;
        let mut lifeline_open = true;
        let mut packet = [0; PACKET_BYTES_MAX];
        // Every arm may be dropped: a packet is read whole or not at all, the others keep no state in their futures.
        let ended = loop {
            tokio::select! {
                ended = self.shim.wait() => break ended,
                read = receive(&self.lifeline, &mut packet), if lifeline_open => match read {
                    Some(length) => self.hear(&packet[..length]).await,
                    None => lifeline_open = false,
                },
                changed = self.force.changed(), if owned => match changed {
                    Ok(()) => self.pass_on_force(),
                    Err(_) => { owned = false; self.let_go(); }
                },
                _ = beats.tick() => if owned { self.beat() },
            }
        };
        // What it wrote before it ended may still be unread. Not by `try_recv`: that answers from what the runtime has
        // noticed so far, and the exit may have been noticed first. The end of file comes at once, the bound never.
        while let Ok(Some(length)) =
            tokio::time::timeout(LAST_PACKETS, receive(&self.lifeline, &mut packet)).await
        {
            self.hear(&packet[..length]).await;
        }
        if !ended.as_ref().is_ok_and(std::process::ExitStatus::success) {
            tracing::warn!(
                child = self.name,
                pid = self.shim_pid,
                ?ended,
                "a shim was lost; sweeping by mark"
            );
            self.shims.forget(self.shim_pid);
            self.shims.sweep().await;
        }
        self.finish().await;
    }

    async fn hear(&mut self, packet: &[u8]) {
        match Report::decode(packet) {
            Some(Report::Started { pid }) => self.tell_start(Ok(pid)),
            Some(Report::Failed { errno }) => self.tell_start(Err(io::Error::from_raw_os_error(errno))),
            Some(Report::Exited(exit)) => {
                // A child alone closes its standard error by ending; then this costs nothing.
                let _ = tokio::time::timeout(LAST_WORDS, &mut self.drain).await;
                tracing::debug!(child = self.name, %exit, "child ended");
                self.state.send_modify(|state| state.exit = state.exit.or(Some(exit)));
            }
            None => tracing::warn!(child = self.name, "a shim sent a word that we do not know"),
        }
    }

    fn tell_start(&mut self, start: Start) {
        if let Some(started) = self.started.take() {
            // Nobody waits any more: then the handle is gone too, which ends the tree.
            let _ = started.send(start);
        }
    }

    /// A full lifeline means a shim that was stopped; the next beat comes in a second.
    fn beat(&self) {
        self.order(Order::Until(self.horizon.deadline()));
        // Said again with each beat, should the first order have met a full lifeline.
        if self.force.borrow().is_some() {
            self.pass_on_force();
        }
    }

    fn pass_on_force(&self) {
        let Some(force) = *self.force.borrow() else { return };
        if force == StopForce::Kill {
            // Somebody may have stopped the shim itself. It is ours and not yet collected, so the number is right.
            let _ = kill(Pid::from_raw(self.shim_pid.cast_signed()), Signal::SIGCONT);
        }
        self.order(Order::Stop(force));
    }

    /// The handle was dropped: the shim sees our end close and stops, while its last report still reaches us.
    fn let_go(&self) {
        if self.lifeline.shutdown(Shutdown::Write).is_err() {
            self.order(Order::Stop(StopForce::Terminate));
        }
    }

    fn order(&self, order: Order) {
        let _ = self.lifeline.try_send(order.encode().as_bytes());
    }

    async fn finish(mut self) {
        self.tell_start(Err(io::ErrorKind::UnexpectedEof.into()));
        if !self.drain.is_finished() {
            let _ = tokio::time::timeout(LAST_WORDS, &mut self.drain).await;
            self.drain.abort();
        }
        if let Some(group) = &self.group {
            group.remove();
        }
        self.shims.forget(self.shim_pid);
        self.state.send_modify(|state| {
            state.exit = state.exit.or(Some(ChildExit::Unknown));
            state.gone = true;
        });
    }
}

/// The length of the next packet, or nothing at the end. A shim that ended with a beat of ours unread makes the kernel
/// say "connection reset" once, *before* it hands out the packets that the shim had sent.
async fn receive(lifeline: &UnixDatagram, packet: &mut [u8]) -> Option<usize> {
    loop {
        match lifeline.recv(packet).await {
            Ok(0) => return None,
            Ok(length) => return Some(length),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
            Err(error) => {
                tracing::warn!(%error, "the lifeline to a shim cannot be read");
                return None;
            }
        }
    }
}

/// Reads the child's standard error to its end, however much it is.
pub(super) async fn drain(mut stderr: ChildStderr, tail: Tail) {
    let mut buffer = vec![0; 16 << 10];
    while let Ok(length @ 1..) = stderr.read(&mut buffer).await {
        tail.push(&buffer[..length]);
    }
}
