//! `cargo bench --bench live_streams`: what readers of live streams cost and how late they hear, held against the goals, on the real
//! program with its embedded Postgres; the agent is scripted, and says in each of its words when it said it. A missed goal is
//! told, not an error. Tests nothing that the tests do not.
#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on says where by a panic")]

#[allow(dead_code, reason = "the other benchmark uses more of it")]
#[path = "parts/figures.rs"]
mod figures;
mod streams;
#[allow(
    dead_code,
    unused_imports,
    unused_macros,
    reason = "the machinery of tests/it, of which this benchmark needs a part"
)]
#[path = "../tests/it/support/mod.rs"]
mod support;

use clap::Parser;
use figures::Report;
use streams::{log, readers};

/// What readers of live streams cost.
#[derive(Parser)]
struct Args {
    /// A few rounds of everything: shows that the benchmark works, its figures say little
    #[arg(long)]
    quick: bool,
    /// The figures as JSON, and nothing else on stdout
    #[arg(long)]
    json: bool,
    /// As cargo calls it
    #[arg(long, hide = true)]
    bench: bool,
}

/// How much of each thing.
pub struct Effort {
    /// Sessions that are written and read at once, each by one reader: 25 events a second each.
    pub sessions: usize,
    /// Words of each.
    pub words: usize,
    /// Seconds of readers that are cut off and come back, 10 a second.
    pub cut_secs: usize,
    /// Readers that read nothing.
    pub stalled: usize,
    /// Rows of a long session.
    pub rows: i64,
}

const WHOLE: Effort = Effort { sessions: 225, words: 500, cut_secs: 60, stalled: 1000, rows: 1_000_000 };
const QUICK: Effort = Effort { sessions: 8, words: 50, cut_secs: 3, stalled: 50, rows: 10_000 };

fn main() {
    let args = Args::parse();
    let effort = if args.quick { QUICK } else { WHOLE };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut report = Report::default();
    runtime.block_on(async {
        readers::measure(&effort, &mut report).await;
        readers::measure_stalled(&effort, &mut report).await;
        log::measure(&effort, &mut report).await;
    });
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let built = if cfg!(debug_assertions) { "unoptimized build" } else { "optimized build" };
    let machine = format!("{cores} cores, {} {}, {built}", std::env::consts::OS, std::env::consts::ARCH);
    if args.json {
        println!("{:#}", report.as_json(&machine));
    } else {
        report.show(&machine);
    }
}
