//! The schedule of faults: from a seed, one stream of them for each node, so that several are in trouble at once.

use crate::nodes::{Node, Nodes};
use nix::sys::signal::{Signal, kill};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::time::Duration;
use tokio::time::Instant;

/// What is done to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// SIGKILL; started again after a while.
    Kill,
    /// TERM; started again after a while.
    Terminate,
    /// SIGSTOP for less than a lease.
    StopBriefly,
    /// SIGSTOP for longer than a lease.
    StopLong,
    /// SIGSTOP, and SIGKILL in it.
    StopAndKill,
    /// SIGKILL of its opencode.
    KillAgents,
}

use Fault::{Kill, KillAgents, StopAndKill, StopBriefly, StopLong, Terminate};

/// A run's faults.
pub struct Plan {
    pub seed: u64,
    faults: &'static [Fault],
    /// Nodes that meet faults, from the first.
    nodes: usize,
    lasts: Duration,
    /// Between two sessions that may move, in milliseconds.
    pub movable_every_ms: u64,
    /// How long each turn waits before it begins. It makes wide what is narrow by nature: the time in which a lease is on work
    /// that may still move.
    pub hold_ms: u64,
}

impl Plan {
    pub fn everything(seed: u64, lasts: Duration) -> Self {
        // The more likely ones stand here more often.
        const ALL: &[Fault] = &[
            Kill,
            Kill,
            Kill,
            StopBriefly,
            StopBriefly,
            StopLong,
            StopAndKill,
            Terminate,
            KillAgents,
            KillAgents,
        ];
        Self { seed, faults: ALL, nodes: 3, lasts, movable_every_ms: 2000, hold_ms: 400 }
    }

    /// Long stops alone: what a fence is for.
    pub fn stops(seed: u64) -> Self {
        Self {
            seed,
            faults: &[StopLong],
            nodes: 2,
            lasts: Duration::from_secs(120),
            movable_every_ms: 1500,
            hold_ms: 1500,
        }
    }

    /// A few kills of nodes and agents: what a shim is for.
    pub fn short(seed: u64) -> Self {
        Self {
            seed,
            faults: &[Kill, KillAgents],
            nodes: 3,
            lasts: Duration::from_secs(15),
            movable_every_ms: 2000,
            hold_ms: 400,
        }
    }

    /// Goes on until its time is up, or `enough` says so.
    pub async fn carry_out<F: Future<Output = bool>>(&self, nodes: &Nodes, enough: impl Fn() -> F) {
        let until = Instant::now() + self.lasts;
        let streams =
            nodes.all[..self.nodes].iter().enumerate().map(|(number, node)| self.stream(number, node, until));
        let watch = async {
            while Instant::now() < until && !enough().await {
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        };
        tokio::select! {
            _ = futures::future::join_all(streams) => {}
            () = watch => {}
        }
        // Whoever was left stopped goes on.
        for node in &nodes.all {
            if let Some(served) = &*node.served.lock().await {
                served.signal(Signal::SIGCONT);
            }
        }
    }

    async fn stream(&self, number: usize, node: &Node, until: Instant) {
        let mut random = StdRng::seed_from_u64(self.seed.wrapping_add(number as u64));
        loop {
            let pause = Duration::from_millis(random.random_range(1500..7000));
            let fault = self.faults[random.random_range(0..self.faults.len())];
            let down = Duration::from_millis(random.random_range(0..3000));
            tokio::time::sleep(pause).await;
            if Instant::now() >= until {
                return;
            }
            println!("   {fault:?} of node {number}");
            inflict(node, fault, down).await;
        }
    }
}

async fn inflict(node: &Node, fault: Fault, down: Duration) {
    let mut seat = node.served.lock().await;
    let Some(served) = &*seat else { return };
    match fault {
        StopBriefly | StopLong => {
            served.signal(Signal::SIGSTOP);
            let stopped = if fault == StopBriefly {
                down + Duration::from_secs(1)
            } else {
                Duration::from_secs(16) + down
            };
            tokio::time::sleep(stopped).await;
            served.signal(Signal::SIGCONT);
            return;
        }
        KillAgents => {
            for pid in node.agents() {
                let _ = kill(pid, Signal::SIGKILL);
            }
            return;
        }
        Kill => served.signal(Signal::SIGKILL),
        StopAndKill => {
            served.signal(Signal::SIGSTOP);
            tokio::time::sleep(down).await;
            served.signal(Signal::SIGKILL);
        }
        Terminate => served.signal(Signal::SIGTERM),
    }
    if let Some(served) = seat.take() {
        served.ended().await;
    }
    tokio::time::sleep(down).await;
    *seat = Some(node.start().await);
}
