//! How listings and details look. What agents said passes [`for_terminal`] here. Colours reach a terminal only: anstream
//! takes them out everywhere else.

use super::CliError;
use crate::domain::text::for_terminal;
use crate::wire::api::Problem;
use anstyle::{AnsiColor, Style};
use chrono::{DateTime, TimeDelta, Utc};
use comfy_table::Table;
use serde::Serialize;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};

pub(super) const DIM: Style = Style::new().dimmed();
pub(super) const BOLD: Style = Style::new().bold();
pub(super) const GREEN: Style = AnsiColor::Green.on_default();
pub(super) const YELLOW: Style = AnsiColor::Yellow.on_default();
pub(super) const RED: Style = AnsiColor::Red.on_default();
pub(super) const CYAN: Style = AnsiColor::Cyan.on_default();

/// Longest text in one cell of a table, in characters; ids are shorter and always whole.
const CELL_CHARS_MAX: usize = 60;

/// One line to stdout.
pub(super) fn line(text: &str) -> Result<(), CliError> {
    writeln!(anstream::stdout().lock(), "{text}").map_err(CliError::Output)
}

/// An error on stderr. When that is closed too, nobody is there to be told.
pub(super) fn complain(text: &str) {
    let _ = writeln!(anstream::stderr().lock(), "{RED}error:{RED:#} {}", for_terminal(text));
}

/// An error on stderr as one line of JSON, for programs.
pub(super) fn complain_json(problem: &Problem) {
    let text = serde_json::to_string(problem).expect("a struct of strings is JSON");
    let _ = writeln!(anstream::stderr().lock(), "{}", for_terminal(&text));
}

/// With `--json` stderr is for problems alone.
static NO_HINTS: AtomicBool = AtomicBool::new(false);

/// From here on nothing is hinted.
pub(super) fn be_silent() {
    NO_HINTS.store(true, Ordering::Relaxed);
}

/// A hint on stderr, so that stdout stays what was asked for.
pub(super) fn hint(text: &str) {
    if NO_HINTS.load(Ordering::Relaxed) {
        return;
    }
    let _ = writeln!(anstream::stderr().lock(), "{DIM}{}{DIM:#}", for_terminal(text));
}

/// One value as JSON, for people who look at it and programs alike.
pub(super) fn json(value: &impl Serialize) -> Result<(), CliError> {
    let text = serde_json::to_string_pretty(value).expect("views are structs of strings and numbers");
    writeln!(std::io::stdout().lock(), "{text}").map_err(CliError::Output)
}

/// One value as one line of JSON: for streams.
pub(super) fn json_line(value: &impl Serialize) -> Result<(), CliError> {
    let text = serde_json::to_string(value).expect("views are structs of strings and numbers");
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{text}").and_then(|()| stdout.flush()).map_err(CliError::Output)
}

/// A listing, or a line that says that there is nothing.
pub(super) fn table(nothing: &str, header: &[&str], rows: Vec<Vec<String>>) -> Result<(), CliError> {
    if rows.is_empty() {
        hint(nothing);
        return Ok(());
    }
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING).set_header(header.to_vec());
    table.add_rows(rows.into_iter().map(|row| row.into_iter().map(|text| cell(&text)).collect::<Vec<_>>()));
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    line(&table.trim_fmt())
}

/// Names and values below each other, leaving out what there is not.
pub(super) fn details(pairs: &[(&str, Option<String>)]) -> Result<(), CliError> {
    let width = pairs.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, value) in pairs {
        if let Some(value) = value {
            line(&format!("{DIM}{name:<width$}{DIM:#}  {}", one_line(value, usize::MAX)))?;
        }
    }
    Ok(())
}

fn cell(text: &str) -> String {
    one_line(text, CELL_CHARS_MAX)
}

/// On one line, harmless, and at most so many characters.
pub(super) fn one_line(text: &str, chars_max: usize) -> String {
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut chars = words.chars();
    let mut short = chars.by_ref().take(chars_max).collect::<String>();
    if chars.next().is_some() {
        short.pop();
        short.push('…');
    }
    for_terminal(&short)
}

/// `12s`, `5m`, `3h`, `9d` ago.
pub(super) fn age(since: DateTime<Utc>, now: DateTime<Utc>) -> String {
    let secs = (now - since).max(TimeDelta::zero()).num_seconds();
    match secs {
        0..60 => format!("{secs}s"),
        60..3600 => format!("{}m", secs / 60),
        3600..86_400 => format!("{}h", secs / 3600),
        _ => format!("{}d", secs / 86_400),
    }
}

/// A moment for details: in UTC, to the second.
pub(super) fn moment(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// The state of an agent's backend, and until when it is parked.
pub(super) fn standing(state: String, parked_until: Option<DateTime<Utc>>) -> String {
    match parked_until {
        Some(until) => format!("{state}, parked until {}", moment(until)),
        None => state,
    }
}

/// The colour of a task's status.
pub(super) fn status_style(status: &str) -> Style {
    match status {
        "completed" => GREEN,
        "failed" => RED,
        "cancelled" => YELLOW,
        _ => CYAN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_one_harmless_line() {
        assert_eq!(one_line("a\n  b\u{1b}[2J", 60), "a b\u{FFFD}[2J");
        assert_eq!(one_line("abcdef", 4), "abc…");
        assert_eq!(one_line("abcd", 4), "abcd");
    }

    #[test]
    fn an_age_is_short_and_never_negative() {
        let now = DateTime::from_timestamp(1_000_000, 0).unwrap();
        let ago = |secs| age(now - TimeDelta::seconds(secs), now);
        assert_eq!([ago(-5), ago(59), ago(60), ago(7200), ago(200_000)], ["0s", "59s", "1m", "2h", "2d"]);
    }
}
