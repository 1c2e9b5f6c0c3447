//! `cargo bench`: what a warm turn costs, held against the goals, with all parts real: the program, its Postgres, git, opencode
//! and the command line; only the model is a script. Prints figures of this run and its ratios; a missed goal is told, not
//! an error, since machines differ and are noisy. Tests nothing that the tests do not.
#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on says where by a panic")]

mod parts;
mod support;

use clap::Parser;
use parts::figures::Report;
use parts::stage::Stage;
use parts::{follow, memory, one_shot, overhead, ready};
use support::leaks::marked_processes;

/// Goals for what agentpool adds to a warm turn, in ms.
const SMALL: (usize, f64) = (200, 25.0);
const LARGE: (usize, f64) = (5_000, 60.0);

/// What a warm turn costs.
#[derive(Parser)]
struct Args {
    /// A few rounds of everything in less than a minute: shows that the benchmark works, its figures say little
    #[arg(long)]
    quick: bool,
    /// Only what agentpool adds to a warm turn
    #[arg(long)]
    turns: bool,
    /// The figures as JSON, and nothing else on stdout
    #[arg(long)]
    json: bool,
    /// As cargo calls it
    #[arg(long, hide = true)]
    bench: bool,
}

/// How often each thing is done.
struct Effort {
    rounds: usize,
    one_shots: usize,
    /// Answers, and words of each.
    follow: (usize, usize),
    starts: usize,
    sessions: usize,
}

const WHOLE: Effort = Effort { rounds: 60, one_shots: 5, follow: (3, 400), starts: 3, sessions: 20 };
const QUICK: Effort = Effort { rounds: 5, one_shots: 1, follow: (1, 100), starts: 1, sessions: 4 };

fn main() {
    let args = Args::parse();
    let effort = if args.quick { QUICK } else { WHOLE };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (report, left) = runtime.block_on(run(&effort, args.turns));
    let machine = machine(args.quick);
    if args.json {
        let mut json = report.as_json(&machine);
        json["processes_left_behind"] = left.into();
        println!("{json:#}");
    } else {
        report.show(&machine);
        println!("{left} processes were left behind");
    }
    assert_eq!(left, 0, "something was left behind");
}

/// Everything on one data folder; what carries its mark at the end is left behind.
async fn run(effort: &Effort, only_turns: bool) -> (Report, usize) {
    let mut report = Report::default();
    let stage = Stage::set().await;
    let mut running = stage.serve().await;
    say("a warm turn, 200 files");
    let (warm_ms, small) =
        overhead::measure(&stage, &mut running, SMALL.0, effort.rounds, SMALL.1, &mut report).await;
    say("a warm turn, 5,000 files");
    let (_, large) =
        overhead::measure(&stage, &mut running, LARGE.0, effort.rounds, LARGE.1, &mut report).await;
    if only_turns {
        running.stop().await;
        return (report, marked_processes(&stage.place.mark()).len());
    }
    say("opencode run");
    let repository = small.repos.user.clone();
    one_shot::measure(&stage, &running, &repository, effort.one_shots, warm_ms, &mut report).await;
    say("submit --follow");
    follow::measure(&stage, &running, small.session, effort.follow, &mut report).await;
    say("stop and start");
    let mut running = ready::measure(&stage, running, effort.starts, &mut report).await;
    say("many sessions");
    memory::measure(&stage, &mut running, &repository, effort.sessions, &mut report).await;
    running.stop().await;
    drop(large);
    (report, marked_processes(&stage.place.mark()).len())
}

fn say(what: &str) {
    eprintln!("measuring: {what}");
}

fn machine(quick: bool) -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let built = if cfg!(debug_assertions) { "unoptimized build" } else { "optimized build" };
    let effort = if quick { ", few rounds: the figures say little" } else { "" };
    format!("{cores} cores, {} {}, {built}{effort}", std::env::consts::OS, std::env::consts::ARCH)
}
