//! One agent that says all it can, and another beside it that should not feel it.

use super::raw::ms;
use super::support::acp::FixtureAgent;
use super::support::conformance::{Line, Policy, Subject};
use crate::Effort;
use crate::figures::{Figure, Goal, Report, Samples};
use std::time::{Duration, Instant};

const PER_SECOND: f64 = 10_000.0;
const GROWTH_MB: f64 = 32.0;
const SLOWER: f64 = 2.0;

pub async fn measure(effort: &Effort, report: &mut Report) {
    eprintln!("measuring: a flood");
    let subject = FixtureAgent::new("");
    let (line, canary) = (Line::open(&subject).await, Line::open(&subject).await);
    let mut quiet = Vec::new();
    for _ in 0..30 {
        quiet.push(beat(&subject, &canary).await);
    }
    let before = resident_mb();
    let begun = Instant::now();
    let mut running = line.begin(&subject, &format!("FLOOD:{}", effort.updates), 256);
    let flood = async {
        let mut most: f64 = 0.0;
        let mut events = 0_u32;
        while running.event().await.is_some() {
            running.seen.clear();
            events += 1;
            if events.is_multiple_of(64) {
                most = most.max(resident_mb());
            }
        }
        (begun.elapsed(), most)
    };
    let beats = async {
        let mut beats = Vec::new();
        while beats.len() < 30 {
            beats.push(beat(&subject, &canary).await);
        }
        beats
    };
    let ((took, most), loud) = tokio::join!(flood, beats);
    subject.backend().dispose(Duration::from_secs(5)).await;
    let mut say = |what: &str, value, unit, goal| report.figures.push(Figure::new(what, value, unit, goal));
    let rate = effort.updates as f64 / took.as_secs_f64();
    say("flood: updates a second from one agent", rate, "/s", Goal::AtLeast(PER_SECOND));
    say("flood: memory grows by", (most - before).max(0.0), "MB", Goal::AtMost(GROWTH_MB));
    let (quiet, loud) = (Samples(quiet).median(), Samples(loud).median());
    say("flood: another's turn, quiet", quiet, "ms", Goal::None);
    say("flood: another's turn meanwhile, times that", loud / quiet, "×", Goal::AtMost(SLOWER));
}

async fn beat(subject: &FixtureAgent, line: &Line) -> f64 {
    let begun = Instant::now();
    line.begin(subject, "SAY: beat", 64).finish(Policy::Deny).await.completed();
    ms(begun)
}

/// Of this process, which has the backend in it.
pub fn resident_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<f64>().unwrap() * 1024.0 / 1e6
}
