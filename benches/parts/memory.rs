//! What agents hold: one session, then twenty of the same node, each after a turn; and the service itself.

use super::figures::{Figure, Goal, Report};
use super::overhead::PROMPT;
use super::stage::{Running, Stage, command_line};
use crate::support::leaks::marked_processes;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// What twenty sessions may hold, in what one holds.
const TIMES_MAX: f64 = 2.5;
/// What the service may hold.
const SERVICE_MB_MAX: f64 = 60.0;
/// Memory of a turn that just ended is still being given back.
const SETTLE: Duration = Duration::from_secs(2);

/// On a program that has just been started.
pub async fn measure(
    stage: &Stage,
    running: &mut Running,
    repository: &Path,
    sessions: usize,
    report: &mut Report,
) {
    let first = running.session(repository).await;
    running.database.turn(first.id, PROMPT).await;
    let one = agents(stage).await;
    let mut tasks = Vec::new();
    for _ in 1..sessions {
        let session = running.session(repository).await;
        tasks.push(running.database.insert(session.id, PROMPT).await.0);
    }
    for task in tasks {
        running.database.wait(task).await;
    }
    let many = agents(stage).await;
    let mut say = |what: String, value, unit, goal| report.figures.push(Figure::new(what, value, unit, goal));
    say("agent processes, 1 session: resident".into(), one.rss_mb, "MB", Goal::None);
    say("agent processes, 1 session: proportional".into(), one.pss_mb, "MB", Goal::None);
    say(format!("agent processes, {sessions} sessions: resident"), many.rss_mb, "MB", Goal::None);
    say(format!("agent processes, {sessions} sessions: proportional"), many.pss_mb, "MB", Goal::None);
    let goal = Goal::AtMost(TIMES_MAX);
    say(format!("{sessions} sessions, times the resident memory of 1"), many.rss_mb / one.rss_mb, "×", goal);
    let service = Held::of(stage.service_pid());
    say("the service's own process: resident".into(), service.rss_mb, "MB", Goal::AtMost(SERVICE_MB_MAX));
}

/// Memory of processes, in MB of a million bytes.
#[derive(Default)]
struct Held {
    rss_mb: f64,
    pss_mb: f64,
}

impl Held {
    fn of(pid: u32) -> Self {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            let kib: f64 = line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0.0);
            kib * 1024.0 / 1e6
        };
        Self { rss_mb: field("Rss:"), pss_mb: field("Pss:") }
    }
}

/// Everything that carries the node's mark, but for Postgres and its shim.
async fn agents(stage: &Stage) -> Held {
    tokio::time::sleep(SETTLE).await;
    let is_agents = |pid: &u32| !command_line(*pid).iter().any(|word| word.contains("postgres"));
    let each = marked_processes(&stage.place.mark()).into_iter().filter(is_agents).map(Held::of);
    each.fold(Held::default(), |sum, one| Held {
        rss_mb: sum.rss_mb + one.rss_mb,
        pss_mb: sum.pss_mb + one.pss_mb,
    })
}
