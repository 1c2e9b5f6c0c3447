//! `cargo bench --bench acp_turn`: what warm agents over ACP cost, held against the goals: beside the bare protocol, beside a
//! start for each turn, with processes kept ready, and with many of them. Real agents with a scripted model where the agent
//! matters, the fixture agent where only we do. A missed goal is told, not an error. Tests nothing that the tests do not.
#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on says where by a panic")]

mod acp;
#[allow(dead_code, reason = "the other benchmark uses more of it")]
#[path = "parts/figures.rs"]
mod figures;

use acp::support;
use acp::{flood, many, turns};
use clap::Parser;
use figures::Report;
use support::real_agents::Which;

/// What warm agents over ACP cost.
#[derive(Parser)]
struct Args {
    /// A few rounds of everything: shows that the benchmark works, its figures say little
    #[arg(long)]
    quick: bool,
    /// Only opencode and codex, which the tests have installed anyway
    #[arg(long)]
    few: bool,
    /// Only this agent: opencode, codex, claude or gemini
    #[arg(long)]
    only: Option<String>,
    /// The figures as JSON, and nothing else on stdout
    #[arg(long)]
    json: bool,
    /// As cargo calls it
    #[arg(long, hide = true)]
    bench: bool,
}

/// How often each thing is done.
pub struct Effort {
    /// Warm turns, over all pairs of processes.
    pub warm: usize,
    /// Pairs of processes that they are measured on.
    pub pairs: usize,
    /// Starts.
    pub cold: usize,
    /// Sessions that are alive at once.
    pub live: usize,
    /// Sessions that are given back.
    pub evicted: usize,
    /// Updates of the flood.
    pub updates: usize,
}

const WHOLE: Effort = Effort { warm: 100, pairs: 5, cold: 3, live: 50, evicted: 1000, updates: 100_000 };
const QUICK: Effort = Effort { warm: 3, pairs: 1, cold: 1, live: 5, evicted: 20, updates: 10_000 };

fn main() {
    let args = Args::parse();
    let effort = if args.quick { QUICK } else { WHOLE };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut report = Report::default();
    runtime.block_on(run(&effort, args.quick || args.few, args.only.as_deref(), &mut report));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let built = if cfg!(debug_assertions) { "unoptimized build" } else { "optimized build" };
    let machine = format!("{cores} cores, {} {}, {built}", std::env::consts::OS, std::env::consts::ARCH);
    if args.json {
        println!("{:#}", report.as_json(&machine));
    } else {
        report.show(&machine);
    }
}

async fn run(effort: &Effort, few: bool, only: Option<&str>, report: &mut Report) {
    let all = [Which::Codex, Which::Opencode, Which::Claude, Which::Gemini];
    if let Some(only) = only {
        let which = all.into_iter().find(|which| format!("{which:?}").eq_ignore_ascii_case(only));
        turns::measure(which.expect("one of the four"), effort, report).await;
        return;
    }
    flood::measure(effort, report).await;
    many::live(effort, report).await;
    many::evicted(effort, report).await;
    for which in &all[..if few { 2 } else { 4 }] {
        eprintln!("measuring: {which:?}");
        turns::measure(*which, effort, report).await;
    }
}
