//! Many conversations: alive in the real program, and given back in a pool.

use super::flood::resident_mb;
use super::support::acp::FixtureAgent;
use super::support::cluster::fresh_database;
use super::support::conformance::{Line, Subject};
use super::support::fixture_agent::fixture_agent;
use super::support::serve::Place;
use crate::Effort;
use crate::figures::{Figure, Goal, Report};
use futures::{StreamExt, stream};
use nix::sys::signal::Signal;
use std::time::Duration;

const SERVICE_MB: f64 = 80.0;
const EVICTED_KB: f64 = 2.0;

/// The service's own memory with so many live sessions.
pub async fn live(effort: &Effort, report: &mut Report) {
    eprintln!("measuring: {} live sessions", effort.live);
    let settings = format!(
        "[agents.fixture]\nbackend = \"acp_warm\"\ncommand = {:?}\nhome = \"isolated\"",
        fixture_agent()
    );
    let place = Place::on(&fresh_database().await, &settings);
    let served = place.serve().await;
    for _ in 0..effort.live {
        let session = served.talk.session().await.id;
        served.talk.turn(session, "fixture", "SAY: here").await;
    }
    let health: serde_json::Value = served.talk.get("/api/pool").await;
    let warm = health["idle"].as_u64().unwrap_or(0) as f64;
    let service = memory_of(served.pid());
    served.signal(Signal::SIGTERM);
    served.ended().await;
    let mut say = |what: String, value, unit, goal| report.figures.push(Figure::new(what, value, unit, goal));
    say("live sessions of the fixture agent".into(), warm, "", Goal::AtLeast(effort.live as f64));
    say("the service's own process with them".into(), service, "MB", Goal::AtMost(SERVICE_MB));
}

/// What a conversation costs that was given back: the pool's own memory, over so many of them.
pub async fn evicted(effort: &Effort, report: &mut Report) {
    eprintln!("measuring: {} evicted sessions", effort.evicted);
    let subject = FixtureAgent::new("");
    let worktree = subject.worktree();
    let one = async |_: usize| {
        let line = Line::open_in(&subject, worktree.clone()).await;
        line.ask(&subject, "SAY: here").await.completed();
        subject.backend().release(&line.handle).await.unwrap();
    };
    // What is allocated once is allocated by then.
    stream::iter(0..effort.evicted.div_ceil(10)).for_each_concurrent(4, one).await;
    let before = resident_mb();
    stream::iter(0..effort.evicted).for_each_concurrent(4, one).await;
    let growth_kb = (resident_mb() - before).max(0.0) * 1e3 / effort.evicted as f64;
    let left = subject.backend().health().pids.len() as f64;
    subject.backend().dispose(Duration::from_secs(5)).await;
    let mut say = |what: String, value, unit, goal| report.figures.push(Figure::new(what, value, unit, goal));
    let goal = Goal::AtMost(EVICTED_KB);
    say(format!("{} evicted sessions: memory of each", effort.evicted), growth_kb, "kB", goal);
    say(format!("{} evicted sessions: processes of them", effort.evicted), left, "", Goal::AtMost(0.0));
}

fn memory_of(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<f64>().unwrap() * 1024.0 / 1e6
}
