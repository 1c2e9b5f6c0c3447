//! The closing table. Every figure is of this run.

use super::play::{Played, Turn};
use crate::cli::CliError;
use crate::cli::output::{self, BOLD};
use chrono::TimeDelta;
use serde_json::json;
use std::time::Duration;

pub(super) fn show(as_json: bool, played: &Played, one_shot: Option<Duration>) -> Result<(), CliError> {
    let figures = Figures::of(played);
    if as_json {
        return output::json(&json!({
            "cold_start_secs": figures.cold_start, "first_turn_secs": figures.first_turn, "warm_turn_median_secs": figures.warm,
            "warm_turns": figures.warm_count, "opencode_run_secs": one_shot.map(|took| took.as_secs_f64()),
            "resident_bytes": played.resident_bytes, "completed": played.all_completed(),
            "changes": played.changes.iter().map(|(agent, files)| json!({"agent": agent, "files": files})).collect::<Vec<_>>(),
        }));
    }
    let secs = |secs: Option<f64>| secs.map_or_else(|| "–".to_owned(), |secs| format!("{secs:.2} s"));
    let mut rows = vec![
        row("cold start, until the first prompt goes out", secs(figures.cold_start)),
        row("first turn after it", secs(figures.first_turn)),
        row(
            &format!("warm turn, INSERT to final row (median of {})", figures.warm_count),
            secs(figures.warm),
        ),
    ];
    if let Some(took) = one_shot {
        let ratio = figures
            .warm
            .map(|warm| format!(" ({:.0} × a warm turn)", took.as_secs_f64() / warm))
            .unwrap_or_default();
        rows.push(row("the same prompt by `opencode run`", format!("{:.2} s{ratio}", took.as_secs_f64())));
    }
    rows.push(row(
        "resident memory of all agent processes",
        format!("{} MB", played.resident_bytes / 1_000_000),
    ));
    for (agent, files) in &played.changes {
        rows.push(row(&format!("files changed by {agent}"), files.to_string()));
    }
    output::line(&format!("\n{BOLD}What it cost{BOLD:#}"))?;
    output::table("", &["WHAT", "FIGURE"], rows)
}

fn row(what: &str, figure: String) -> Vec<String> {
    vec![what.to_owned(), figure]
}

struct Figures {
    cold_start: Option<f64>,
    first_turn: Option<f64>,
    warm: Option<f64>,
    warm_count: usize,
}

impl Figures {
    /// Cold is the very first turn; warm are the second and third of each session.
    fn of(played: &Played) -> Self {
        let first = played.sessions.first().and_then(|turns| turns.first());
        let cold_start = first.and_then(|turn| Some(secs(turn.prompted_at? - turn.task.created_at)));
        let first_turn = first.and_then(|turn| Some(secs(turn.task.finished_at? - turn.prompted_at?)));
        let mut warm: Vec<f64> =
            played.sessions.iter().flat_map(|turns| turns.iter().skip(1)).filter_map(whole).collect();
        warm.sort_by(f64::total_cmp);
        Self { cold_start, first_turn, warm: warm.get(warm.len() / 2).copied(), warm_count: warm.len() }
    }
}

fn whole(turn: &Turn) -> Option<f64> {
    Some(secs(turn.task.finished_at? - turn.task.created_at))
}

fn secs(delta: TimeDelta) -> f64 {
    delta.as_seconds_f64()
}
