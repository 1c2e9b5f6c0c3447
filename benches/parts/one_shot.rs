//! The same prompt the old way: `opencode run`, a process a prompt, in the same home with the same environment.

use super::direct::Server;
use super::figures::{Figure, Goal, Report, Samples};
use super::overhead::{ANSWER, PROMPT};
use super::stage::{Running, Stage};
use crate::support::node::PATIENCE;
use std::path::Path;
use std::process::Stdio;
use std::time::Instant;
use tokio::process::Command;

/// How many times faster a warm turn is to be.
const TIMES_FASTER: f64 = 15.0;

pub async fn measure(
    stage: &Stage,
    running: &Running,
    repository: &Path,
    runs: usize,
    warm_ms: f64,
    report: &mut Report,
) {
    let server = Server::of(running).await;
    // The first one may have something to set up that no later one has.
    once(stage, &server, repository).await;
    let mut samples = Samples::default();
    for _ in 0..runs {
        samples.0.push(once(stage, &server, repository).await);
    }
    let median = samples.median();
    report.figures.push(Figure::new(
        "the same prompt by `opencode run`, 200 files, median",
        median,
        "ms",
        Goal::None,
    ));
    let ratio =
        Figure::new("warm turn, times faster than that", median / warm_ms, "×", Goal::AtLeast(TIMES_FASTER));
    report.figures.push(ratio);
}

async fn once(stage: &Stage, server: &Server, repository: &Path) -> f64 {
    // The mark stays in it, so that the search for what is left behind sees these processes too.
    let environment = server.environment.iter().filter(|(name, _)| *name != "OPENCODE_SERVER_PASSWORD");
    let begun = Instant::now();
    let run = Command::new(&stage.opencode)
        .args(["run", PROMPT])
        .env_clear()
        .envs(environment)
        .current_dir(repository)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(PATIENCE, run).await.expect("it ends in time").unwrap();
    let took = begun.elapsed().as_secs_f64() * 1e3;
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains(ANSWER), "opencode run: {output:?}");
    took
}
