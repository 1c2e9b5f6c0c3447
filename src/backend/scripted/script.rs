//! What a prompt asks the scripted agent to do: text in, steps out. Pure.

use super::scenario::Scenarios;
use crate::backend::BackendError;
use crate::domain::failure::FailureReason;
use crate::domain::text;
use serde::Deserialize;
use std::path::PathBuf;

/// Most tokens of one `SLOW:n`.
const SLOW_MAX: u32 = 1_000_000;

/// One step of a turn.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Step {
    Say(String),
    Think(String),
    /// Lines of a plan, each with its status.
    Plan(Vec<(String, String)>),
    /// Tokens, one each 20 ms.
    Slow(u32),
    /// Tokens that say when they were said, one each 40 ms.
    Clock(u32),
    SleepMs(u64),
    ToolWrite {
        path: PathBuf,
        content: String,
    },
    Ask(String),
    Question(String),
    Notice(String),
    Retry(String),
    Fail {
        #[serde(deserialize_with = "reason")]
        reason: FailureReason,
        /// Tries of the task that fail; `None` is all of them.
        tries: Option<u32>,
        /// For a rate limit: when it ends.
        retry_after_secs: Option<u64>,
    },
    Crash {
        tries: Option<u32>,
    },
    CrashLate,
    Recall,
    Settings,
    Hang,
    HangDeaf,
    Refuse,
    Empty,
}

/// Why a prompt cannot be played.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ScriptError {
    #[error("there is no scenario {name:?}: use one of {known}")]
    NoScenario { name: String, known: String },
    #[error("{0:?} is no reason to fail: use a word of the failure_reason column, perhaps with xN behind it")]
    NoReason(String),
}

impl From<ScriptError> for BackendError {
    fn from(error: ScriptError) -> Self {
        Self::turn(FailureReason::BadRequest, error.to_string())
    }
}

/// The steps of a prompt, in the order of its lines.
pub(super) fn steps(prompt: &str, scenarios: &Scenarios) -> Result<Vec<Step>, ScriptError> {
    // What a conversation told again holds was run when it was new.
    let prompt = text::without_elements(prompt, text::RETOLD);
    let mut steps = Vec::new();
    for (mark, rest) in prompt.lines().filter_map(directive) {
        match mark {
            "SCENARIO:" => {
                let name = rest.split_whitespace().next().unwrap_or_default();
                let found = scenarios.steps(name).ok_or_else(|| ScriptError::NoScenario {
                    name: name.to_owned(),
                    known: scenarios.names().collect::<Vec<_>>().join(", "),
                })?;
                steps.extend_from_slice(found);
            }
            "FAIL:" => steps.push(fail(rest)?),
            _ => steps.push(plain(mark, rest)),
        }
    }
    if steps.is_empty() {
        steps.push(Step::Say(format!("echo: {}", prompt.trim())));
    }
    Ok(steps)
}

const MARKS: [&str; 16] = [
    "SAY:",
    "THINK:",
    "SLOW:",
    "CLOCK:",
    "SLEEP:",
    "TOOL:write ",
    "ASK:",
    "QUESTION:",
    "FAIL:",
    "SCENARIO:",
    "RECALL",
    "SETTINGS",
    "CRASH",
    "HANG",
    "REFUSE",
    "EMPTY",
];

/// The first directive of a line, and what follows it.
fn directive(line: &str) -> Option<(&'static str, &str)> {
    let at = |mark: &'static str| {
        let (at, _) = line.match_indices(mark).find(|(at, _)| !line[..*at].ends_with(is_word))?;
        let rest = &line[at + mark.len()..];
        // A bare word must end there, or go on as `:late` or `x3` do.
        let ends = mark.ends_with([':', ' ']) || !rest.starts_with(|c| is_word(c) && c != 'x');
        ends.then_some((at, mark, rest.trim()))
    };
    MARKS.into_iter().filter_map(at).min_by_key(|(at, ..)| *at).map(|(_, mark, rest)| (mark, rest))
}

/// The steps that cannot be wrong.
fn plain(mark: &str, rest: &str) -> Step {
    match mark {
        "THINK:" => Step::Think(rest.to_owned()),
        "SLOW:" => Step::Slow(u32::try_from(leading_number(rest)).unwrap_or(SLOW_MAX).min(SLOW_MAX)),
        "CLOCK:" => Step::Clock(u32::try_from(leading_number(rest)).unwrap_or(SLOW_MAX).min(SLOW_MAX)),
        "SLEEP:" => Step::SleepMs(leading_number(rest)),
        "TOOL:write " => {
            let (path, content) = rest.split_once(' ').unwrap_or((rest, ""));
            Step::ToolWrite { path: path.into(), content: format!("{}\n", content.trim()) }
        }
        "ASK:" => Step::Ask(rest.to_owned()),
        "QUESTION:" => Step::Question(rest.to_owned()),
        "RECALL" => Step::Recall,
        "SETTINGS" => Step::Settings,
        "CRASH" if rest.starts_with(":late") => Step::CrashLate,
        "CRASH" => Step::Crash { tries: tries(rest).1 },
        "HANG" if rest.starts_with(":deaf") => Step::HangDeaf,
        "HANG" => Step::Hang,
        "REFUSE" => Step::Refuse,
        "EMPTY" => Step::Empty,
        _ => Step::Say(rest.to_owned()),
    }
}

fn fail(rest: &str) -> Result<Step, ScriptError> {
    let whole = rest.split_whitespace().next().unwrap_or_default();
    let (what, retry_after_secs) = match whole.split_once('@') {
        Some((what, secs)) => (what, Some(leading_number(secs))),
        None => (whole, None),
    };
    let (word, tries) = tries(what);
    match FailureReason::parse(word) {
        Some(reason) => Ok(Step::Fail { reason, tries, retry_after_secs }),
        None => Err(ScriptError::NoReason(whole.to_owned())),
    }
}

/// `wordxN` → the word and N; a reason may hold an x of its own.
fn tries(text: &str) -> (&str, Option<u32>) {
    let word = text.split_whitespace().next().unwrap_or_default();
    match word.rsplit_once('x').map(|(word, n)| (word, n.parse())) {
        Some((word, Ok(n))) => (word, Some(n)),
        _ => (word, None),
    }
}

fn leading_number(text: &str) -> u64 {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text[..digits].parse().unwrap_or(0)
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn reason<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<FailureReason, D::Error> {
    let word = String::deserialize(deserializer)?;
    FailureReason::parse(&word).ok_or_else(|| serde::de::Error::custom(ScriptError::NoReason(word)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(prompt: &str) -> Vec<Step> {
        steps(prompt, &Scenarios::built_in()).unwrap()
    }

    #[test]
    fn directives_are_played_in_the_order_of_their_lines() {
        assert_eq!(
            of("please\nTHINK: a\nSAY: b SLOW:3\nTOOL:write x/y.txt z z"),
            [
                Step::Think("a".into()),
                Step::Say("b SLOW:3".into()),
                Step::ToolWrite { path: "x/y.txt".into(), content: "z z\n".into() },
            ]
        );
    }

    #[test]
    fn a_prompt_without_directive_is_echoed() {
        assert_eq!(of("HANGING ESSAY:"), [Step::Say("echo: HANGING ESSAY:".into())]);
        assert_eq!(
            of("<conversation_so_far>CRASH</conversation_so_far>\nhi"),
            [Step::Say("echo: hi".into())]
        );
    }

    #[test]
    fn every_reason_can_be_played_always_or_for_some_tries() {
        for reason in FailureReason::ALL {
            let word = reason.as_str();
            assert_eq!(
                of(&format!("FAIL:{word}")),
                [Step::Fail { reason, tries: None, retry_after_secs: None }]
            );
            let (tries, retry_after_secs) = (Some(12), Some(30));
            assert_eq!(
                of(&format!("FAIL:{word}x12@30 now")),
                [Step::Fail { reason, tries, retry_after_secs }]
            );
        }
        assert_eq!(of("CRASHx2"), [Step::Crash { tries: Some(2) }]);
        assert_eq!(of("CRASH:late"), [Step::CrashLate]);
        assert_eq!(of("HANG:deaf"), [Step::HangDeaf]);
    }

    #[test]
    fn what_is_not_known_is_said() {
        let none = Scenarios::default();
        assert_eq!(steps("FAIL:bad_lucK", &none), Err(ScriptError::NoReason("bad_lucK".into())));
        let missing = steps("SCENARIO:opera", &Scenarios::built_in()).unwrap_err().to_string();
        assert!(missing.contains("opera") && missing.contains("tour"), "{missing}");
    }
}
