//! From the program's start on an existing data folder, with its embedded Postgres, until it says that it is ready.

use super::figures::{Figure, Goal, Report, Samples};
use super::stage::{Running, Stage};
use reqwest::StatusCode;
use std::time::Instant;

/// Longest that a start may take.
const READY_SECS_MAX: f64 = 3.0;

/// Stops and starts; what runs at the end is given back.
pub async fn measure(stage: &Stage, mut running: Running, starts: usize, report: &mut Report) -> Running {
    let mut samples = Samples::default();
    for _ in 0..starts {
        running.stop().await;
        let begun = Instant::now();
        let served = stage.place.serve().await;
        let url = format!("{}/readyz", served.talk.url);
        while reqwest::get(&url).await.unwrap().status() != StatusCode::OK {}
        samples.0.push(begun.elapsed().as_secs_f64());
        running = stage.connect(served).await;
    }
    let what = format!("start to /readyz 200 on an existing data folder, slowest of {starts}");
    report.figures.push(Figure::new(what, samples.max(), "s", Goal::AtMost(READY_SECS_MAX)));
    running
}
