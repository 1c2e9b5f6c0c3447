//! Directives of a prompt: text in, marks with their rests out. Pure.

use agentpool::domain::text::{RETOLD, without_elements};

/// Every mark. One that ends in a colon or a blank takes what follows; a bare word must end there or go on with a colon.
const MARKS: [&str; 48] = [
    "SAY:",
    "THINK:",
    "SLOW:",
    "SLEEP:",
    "RECALL",
    "SETTINGS",
    "TOOL:write ",
    "TOOL:read ",
    "CLIENT:write ",
    "CLIENT:read ",
    "TERMINAL:",
    "PLAN",
    "COMMANDS",
    "MODE:",
    "TITLE:",
    "ENV ",
    "PID",
    "CWD",
    "MCP",
    "EMPTY",
    "REFUSE",
    "TRUNCATED",
    "UNKNOWN_STOP",
    "FAIL:",
    "TEXT_ERROR:",
    "HANG",
    "IGNORE_CANCEL",
    "LOSE_CANCEL:",
    "LATE_CANCEL:",
    "AFTER_CANCEL:",
    "AFTER_END:",
    "EXIT:",
    "KILL:",
    "PARTIAL:",
    "FLOOD:",
    "ENDLESS:",
    "GARBAGE",
    "NOT_UTF8",
    "NUL:",
    "CRLF:",
    "TWICE",
    "UNKNOWN_ID",
    "FOREIGN:",
    "UNKNOWN_UPDATE",
    "UNANNOUNCED",
    "GRANDCHILDREN:",
    "STDERR:",
    "GROW:",
];
const ENDINGS: [&str; 2] = ["DEAF", "STOP_SELF"];

/// The directives in the order of their lines.
pub fn of(prompt: &str) -> Vec<(&'static str, String)> {
    without_the_retold(prompt)
        .lines()
        .filter_map(directive)
        .map(|(mark, rest)| (mark, rest.to_owned()))
        .collect()
}

/// The first directive of a line, and what follows it.
fn directive(line: &str) -> Option<(&'static str, &str)> {
    let at = |mark: &'static str| {
        let (at, _) = line.match_indices(mark).find(|(at, _)| !line[..*at].ends_with(is_word))?;
        let rest = &line[at + mark.len()..];
        let ends = mark.ends_with([':', ' ']) || !rest.starts_with(is_word);
        ends.then_some((at, mark, rest.trim()))
    };
    MARKS
        .into_iter()
        .chain(ENDINGS)
        .filter_map(at)
        .min_by_key(|(at, ..)| *at)
        .map(|(_, mark, rest)| (mark, rest))
}

/// The number that a rest begins with, after a colon perhaps; 1 when there is none.
pub fn number(rest: &str) -> u64 {
    let rest = rest.trim_start_matches([':', ' ']);
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest[..digits].parse().unwrap_or(1)
}

/// The text without conversations told again: their directives were run when they were new.
pub fn without_the_retold(text: &str) -> String {
    without_elements(text, RETOLD)
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}
