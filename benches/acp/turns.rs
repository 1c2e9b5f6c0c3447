//! A warm turn beside the bare protocol, beside a start for the turn, and the first turn on a process that was ready.

use super::raw::{Raw, Times, ms};
use super::support::conformance::{Line, Subject};
use super::support::real_agents::{RealAgent, Which};
use crate::Effort;
use crate::figures::{Figure, Goal, Report, Samples};
use agentpool::backend::Occasion;
use agentpool::backend::acp::{AcpBackend, Sharing};
use agentpool::domain::turn::TurnEvent;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How much later the first text may come through us, in ms.
const LATER_MS: f64 = 5.0;
/// How much faster a warm turn is to be than a start for it.
const FASTER: f64 = 5.0;
/// What a first turn on a ready process may cost, in a warm turn and the agent's own `session/new`.
const FIRST: f64 = 1.3;
const PROMPT: &str = "SAY: the quick brown fox jumps over the lazy dog";

pub async fn measure(which: Which, effort: &Effort, report: &mut Report) {
    let (mut through_us, mut bare, mut later) = (Vec::new(), Vec::new(), Samples::default());
    let mut news = Vec::new();
    for _ in 0..effort.pairs {
        let (us, them) = side_by_side(which, effort.warm.div_ceil(effort.pairs), &mut news).await;
        later.0.push(of(&us, |t| t.first_ms) - of(&them, |t| t.first_ms));
        through_us.extend(us);
        bare.extend(them);
    }
    let theirs = RealAgent::new(which, Sharing::Own).await;
    let (mut cold, mut bare_first) = (Vec::new(), Vec::new());
    for _ in 0..effort.cold {
        let worktree = theirs.worktree();
        let begun = Instant::now();
        let mut raw = Raw::start(&theirs.config, &worktree).await;
        let first = raw.prompt(PROMPT).await;
        cold.push(ms(begun));
        bare_first.push(raw.new_ms + first.whole_ms);
        if std::env::var_os("ACP_BENCH_STEPS").is_some() {
            eprintln!(
                "bare: new {:.0} ms, first text {:.0} ms, whole {:.0} ms",
                raw.new_ms, first.first_ms, first.whole_ms
            );
        }
        news.push(raw.new_ms);
    }
    let first = first_turns(which, effort, Ready::Process).await;
    let prepared = first_turns(which, effort, Ready::Conversation).await;
    let (warm, plain) = (of(&through_us, |t| t.whole_ms), of(&bare, |t| t.whole_ms));
    let (cold, new) = (Samples(cold).median(), Samples(news).median());
    let name = format!("{which:?}").to_lowercase();
    let mut say = |what: &str, value, unit, goal| {
        report.figures.push(Figure::new(format!("{name}: {what}"), value, unit, goal));
    };
    say("warm turn through us", warm, "ms", Goal::None);
    say("warm turn, bare protocol", plain, "ms", Goal::None);
    let what = format!("first text later than bare, median of {} pairs of processes", later.0.len());
    say(&what, later.median(), "ms", Goal::AtMost(LATER_MS));
    say("started for the turn", cold, "ms", Goal::None);
    // codex starts in 60 ms.
    let goal = if which == Which::Codex { Goal::None } else { Goal::AtLeast(FASTER) };
    say("warm, times faster than started for the turn", cold / warm, "×", goal);
    say("first turn on a ready process", first, "ms", Goal::None);
    let bare_first = Samples(bare_first).median();
    say("session/new and first turn, bare, on a process just initialised", bare_first, "ms", Goal::None);
    say("session/new on a process just started", new, "ms", Goal::None);
    say(
        "first turn on a ready process, of a warm turn and session/new",
        first / (warm + new),
        "×",
        Goal::None,
    );
    say("first turn of a prepared session", prepared, "ms", Goal::None);
    let part = prepared / (warm + new);
    say("first turn of a prepared session, of a warm turn and session/new", part, "×", Goal::AtMost(FIRST));
}

fn of(times: &[Times], pick: fn(&Times) -> f64) -> f64 {
    times.iter().map(pick).collect::<Samples>().median()
}

/// Turns through us and by the bare protocol, each on a process of its own, turn about. On single pairs
/// opencode's difference was 2, 6, 9 and 12 ms: hence several pairs.
async fn side_by_side(which: Which, rounds: usize, news: &mut Vec<f64>) -> (Vec<Times>, Vec<Times>) {
    let (ours, theirs) =
        (RealAgent::new(which, Sharing::Own).await, RealAgent::new(which, Sharing::Own).await);
    let line = Line::open(&ours).await;
    let mut raw = Raw::start(&theirs.config, &theirs.worktree()).await;
    news.push(raw.new_ms);
    // Each meets its model once before it counts.
    turn(&ours, &line).await;
    raw.prompt(PROMPT).await;
    let (mut through_us, mut bare) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        // Each follows the other as often: what an agent does after its answer falls on whoever comes next.
        if round % 2 == 0 {
            through_us.push(turn(&ours, &line).await);
            bare.push(raw.prompt(PROMPT).await);
        } else {
            bare.push(raw.prompt(PROMPT).await);
            through_us.push(turn(&ours, &line).await);
        }
    }
    drop(raw);
    ours.backend().dispose(Duration::from_secs(5)).await;
    (through_us, bare)
}

/// One turn by the backend.
async fn turn(subject: &RealAgent, line: &Line) -> Times {
    let begun = Instant::now();
    let mut running = line.begin(subject, PROMPT, 256);
    let mut first_ms = None;
    while let Some(event) = running.event().await {
        if matches!(event, TurnEvent::Text(_)) {
            first_ms.get_or_insert(ms(begun));
        }
    }
    let whole_ms = ms(begun);
    running.end.await.unwrap().unwrap();
    Times { first_ms: first_ms.unwrap_or(whole_ms), whole_ms }
}

/// What there is before anybody wishes for a turn.
#[derive(Clone, Copy, PartialEq)]
enum Ready {
    /// A process that waits.
    Process,
    /// And a conversation in the worktree, as after `session new --prepare`.
    Conversation,
}

/// From the wish for a conversation to the end of its first turn, with a process at hand, and perhaps the conversation.
async fn first_turns(which: Which, effort: &Effort, has: Ready) -> f64 {
    let mut subject = RealAgent::new(which, Sharing::Own).await;
    subject.config.spare = 1;
    let backend = Arc::new(AcpBackend::new(subject.config.clone(), subject.shims.clone()));
    subject.replace(backend);
    let mut samples = Vec::new();
    for round in 0..=effort.cold {
        ready(&subject).await;
        let worktree = subject.worktree();
        if has == Ready::Conversation {
            subject.backend().prewarm(&worktree, Occasion::SessionMade).await;
            ready(&subject).await;
        }
        let begun = Instant::now();
        let line = Line::open_in(&subject, worktree).await;
        let open_ms = ms(begun);
        let times = turn(&subject, &line).await;
        if std::env::var_os("ACP_BENCH_STEPS").is_some() {
            eprintln!(
                "open {open_ms:.0} ms, first text {:.0} ms, whole {:.0} ms",
                times.first_ms, times.whole_ms
            );
        }
        // The first one meets its model for the first time.
        if round > 0 || effort.cold == 1 {
            samples.push(ms(begun));
        }
        subject.backend().release(&line.handle).await.unwrap();
    }
    subject.backend().dispose(Duration::from_secs(5)).await;
    Samples(samples).median()
}

/// A spare is there, and the machine is quiet again.
async fn ready(subject: &RealAgent) {
    let until = Instant::now() + Duration::from_secs(120);
    while !subject.backend().health().detail.contains("(1 spare)") {
        assert!(Instant::now() < until, "{:?}", subject.backend().health());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
}
