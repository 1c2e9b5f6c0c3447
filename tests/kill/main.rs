//! The kill test: three nodes on one Postgres with a real opencode each, under random SIGKILL, SIGSTOP, TERM, dead agents and
//! cut connections, then drained. A program checks the history that triggers wrote down meanwhile. And the same with the
//! fence taken out, and with the shim taken out: both must be caught, or the test proves nothing.
//!
//! `cargo test --test kill`, with a part of a promise's name for that one alone; `KILL_SEED` repeats a run's faults,
//! `KILL_SECS` says how long they go on (120).
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed, and a panic says where")]

mod faults;
mod history;
mod load;
mod mutants;
mod nodes;
#[allow(
    dead_code,
    unused_imports,
    unused_macros,
    reason = "the machinery of tests/it, of which this test needs a part"
)]
#[path = "../it/support/mod.rs"]
mod support;

use faults::Plan;
use history::Audit;
use load::Load;
use mutants::Mutant;
use nodes::Nodes;
use std::process::ExitCode;
use std::time::Duration;
use support::cluster::fresh_database;
use tokio::time::Instant;

/// Once the faults are over, no more than this may pass without the end of a task until all have ended: the longest back-off
/// of a head (1 min after failed starts, and heads that were interrupted often do get near it), a circuit that is open for as
/// long, and some time for the turn.
const STALL: Duration = Duration::from_secs(180);

fn main() -> ExitCode {
    let filter = std::env::args().nth(1);
    match filter.as_deref() {
        // The parts that a mutated node plays: see `mutants`.
        Some("serve") => return agentpool::cli::main(),
        Some("shim") => return mutants::naive_shim(),
        _ => {}
    }
    let seed = variable("KILL_SEED").unwrap_or_else(rand::random);
    let secs = variable("KILL_SECS").unwrap_or(120);
    println!("KILL_SEED={seed} KILL_SECS={secs}");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (mut passed, mut failed) = (0, 0);
    let promises = [
        ("a_missing_shim_is_caught", Mutant::NoShim, Plan::short(seed)),
        ("a_missing_fence_is_caught", Mutant::NoFence, Plan::stops(seed)),
        (
            "nothing_is_lost_doubled_reordered_or_left",
            Mutant::None,
            Plan::everything(seed, Duration::from_secs(secs)),
        ),
    ];
    for (promise, mutant, plan) in promises {
        if filter.as_ref().is_some_and(|filter| !promise.contains(filter.as_str())) {
            continue;
        }
        println!("== {promise}");
        let found = runtime.block_on(run(mutant, plan));
        let holds = if mutant == Mutant::None { found.is_empty() } else { mutant.explains(&found) };
        for line in found.iter().take(20) {
            println!("   {line}");
        }
        println!("test {promise} ... {}", if holds { "ok" } else { "FAILED" });
        *if holds { &mut passed } else { &mut failed } += 1;
    }
    println!("\n{passed} passed, {failed} failed");
    if failed > 0 {
        println!("repeat with: KILL_SEED={seed} KILL_SECS={secs} cargo test --test kill");
    }
    ExitCode::from(u8::from(failed > 0))
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().expect("a number"))
}

/// One run; returns every breach of a promise.
async fn run(mutant: Mutant, plan: Plan) -> Vec<String> {
    let database = fresh_database().await;
    let nodes = Nodes::start(&database, mutant, plan.hold_ms).await;
    let audit = Audit::begin(&database, &nodes, mutant).await;
    let load = Load::begin(&database, &nodes, &plan).await;
    let begun = Instant::now();
    plan.carry_out(&nodes, || audit.has_seen_a_zombie(mutant)).await;
    let submitted = load.end().await;
    println!("   {} tasks were acknowledged in {} s of faults", submitted.len(), begun.elapsed().as_secs());
    nodes.all_up().await;
    let mut found = Vec::new();
    if mutant != Mutant::NoFence {
        let drained = audit.until_drained(STALL).await;
        found.extend(drained.err());
        found.extend(audit.check(&submitted).await);
    } else {
        found.extend(audit.zombies().await);
    }
    found.extend(nodes.end(mutant).await);
    found
}
