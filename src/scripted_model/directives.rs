//! What the model does for a request: conversation in, steps out. Pure; the clock and the wire are elsewhere.

use super::conversation::{Conversation, is_side_question};
use super::tools::{self, Call};
use std::time::Duration;

/// Between two words of an answer: enough for a client to see a stream, too little to wait for.
const WORD_PAUSE: Duration = Duration::from_millis(5);
/// Between two tokens of `SLOW:n`.
const SLOW_PAUSE: Duration = Duration::from_millis(100);
/// Most tokens of `SLOW:n` and most KiB of `BIG:n`: a script is made whole before it is played.
const REPEAT_MAX: usize = 65_536;
/// Text that stands for the answer to a side request.
const SIDE_ANSWER: &str = "Scripted title";

/// One step of an answer.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Step {
    Think(String),
    Text(String),
    Call(Call),
    Pause(Duration),
    /// Silence until the client leaves.
    Hang,
    /// The connection is cut.
    Drop,
    /// The last step of a script, unless it hangs or drops.
    Stop(Finish),
}

/// Why the model stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finish {
    End,
    Tool,
    Length,
}

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Script {
    /// No directive was run.
    pub(super) side: bool,
    /// The text that chose the steps.
    pub(super) directive: String,
    /// Wins over the steps while it lasts.
    pub(super) failure: Option<Failure>,
    pub(super) steps: Vec<Step>,
}

/// `FAIL:code`, `FAIL:codexN` or `OVERFLOW:n`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) status: u16,
    /// Tries that fail; `None` is all of them.
    pub(super) tries: Option<u32>,
    /// The conversation has outgrown the model.
    pub(super) too_long: bool,
}

/// The script for a request.
pub(super) fn script(conversation: &Conversation) -> Script {
    let (at, directive) = conversation.last_user().unwrap_or_default();
    let fixed = |text: String| vec![Step::Text(text), Step::Stop(Finish::End)];
    if let Some(schema) = &conversation.response_schema {
        let steps = fixed(tools::minimal(schema).to_string());
        return Script { side: true, directive, failure: None, steps };
    }
    if conversation.tools.is_empty() {
        return Script { side: true, directive, failure: None, steps: fixed(SIDE_ANSWER.into()) };
    }
    if is_side_question(&directive) {
        return Script { side: true, directive, failure: None, steps: fixed("none".into()) };
    }
    let mut steps = Vec::new();
    if let Some(thought) = rest_of_line(&directive, "THINK:") {
        speak(&mut steps, &format!("thinking about: {thought}"), Step::Think);
    }
    answer(&mut steps, conversation, at, &directive);
    let failure = failure(&directive).or_else(|| overflow(conversation, &directive));
    Script { side: false, failure, directive, steps }
}

/// True when the text asks for something.
pub(super) fn has_directive(text: &str) -> bool {
    ["TOOL:", "SLOW:", "THINK:", "BIG:", "SAY:", "FAIL:", "OVERFLOW:"]
        .iter()
        .any(|mark| find(text, mark).is_some())
        || ["RECALL", "HANG", "DROP", "LEN"].iter().any(|word| has_word(text, word))
}

fn answer(steps: &mut Vec<Step>, conversation: &Conversation, at: usize, text: &str) {
    let calls: Vec<&str> = text.lines().filter_map(|line| rest_of_line(line, "TOOL:")).collect();
    if !calls.is_empty() {
        return tool_turn(steps, conversation, at, &calls);
    }
    if has_word(text, "HANG") {
        return steps.extend([Step::Text("hanging".into()), Step::Hang]);
    }
    if has_word(text, "DROP") {
        // The pause lets the server flush the half: it writes when there is nothing more to read for the moment.
        return steps.extend([Step::Text("half an ans".into()), Step::Pause(WORD_PAUSE), Step::Drop]);
    }
    if let Some(n) = number(text, "SLOW:") {
        steps.extend((0..n).flat_map(|i| [Step::Text(format!("tok{i} ")), Step::Pause(SLOW_PAUSE)]));
    } else if let Some(n) = number(text, "BIG:") {
        steps.extend((0..n).map(|i| Step::Text(kib(i))));
    } else if has_word(text, "RECALL") {
        let earlier: Vec<String> =
            conversation.user_turns(at).iter().map(|turn| turn.chars().take(80).collect()).collect();
        let said = format!("RECALL {} prior user turns: {}", earlier.len(), earlier.join(" | "));
        speak(steps, &said, Step::Text);
    } else if let Some(said) = rest_of_line(text, "SAY:") {
        speak(steps, said, Step::Text);
    } else {
        let tail = text.char_indices().rev().nth(399).map_or(0, |(from, _)| from);
        speak(steps, &format!("echo: {}", &text[tail..]), Step::Text);
    }
    steps.push(Step::Stop(if has_word(text, "LEN") { Finish::Length } else { Finish::End }));
}

/// One call a model turn, in order; when all have their results, a closing text.
fn tool_turn(steps: &mut Vec<Step>, conversation: &Conversation, at: usize, calls: &[&str]) {
    let results = conversation.tool_results(at);
    let Some(spec) = calls.get(results.len()) else {
        let last: String = results.last().unwrap_or(&"").chars().take(160).collect();
        speak(steps, &format!("Done after {} tool result(s). Last: {last}", results.len()), Step::Text);
        return steps.push(Step::Stop(Finish::End));
    };
    match tools::call(&conversation.tools, spec) {
        Some(call) => {
            steps.push(Step::Text(format!("Calling {}. ", call.name)));
            steps.extend([Step::Call(call), Step::Stop(Finish::Tool)]);
        }
        None => {
            let offered = conversation.tools.keys().cloned().collect::<Vec<_>>().join(", ");
            steps.push(Step::Text(format!("no tool is offered for {spec:?}; offered: {offered}")));
            steps.push(Step::Stop(Finish::End));
        }
    }
}

/// One KiB that repeats nothing: agents stop a model that they hear repeat itself.
fn kib(line: usize) -> String {
    let words: String = (0..93).map(|word| format!("{line:06}.{word:03} ")).collect();
    words + "\n"
}

/// The words of a text, each with the space that follows it, with a pause after each.
fn speak(steps: &mut Vec<Step>, text: &str, say: impl Fn(String) -> Step) {
    for word in text.split_inclusive(' ') {
        steps.extend([say(word.to_owned()), Step::Pause(WORD_PAUSE)]);
    }
}

fn failure(text: &str) -> Option<Failure> {
    let rest = &text[find(text, "FAIL:")? + "FAIL:".len()..];
    let status = rest.get(..3)?.parse().ok().filter(|status| (400..600).contains(status))?;
    let tries = rest[3..].strip_prefix('x').and_then(leading_number);
    Some(Failure { status, tries: tries.and_then(|n| u32::try_from(n).ok()), too_long: false })
}

/// Fails while the conversation has more than so many user turns.
fn overflow(conversation: &Conversation, text: &str) -> Option<Failure> {
    let room = number(text, "OVERFLOW:")?;
    let turns = conversation.user_turns(conversation.turns.len()).len();
    (turns > room).then_some(Failure { status: 400, tries: None, too_long: true })
}

fn number(text: &str, mark: &str) -> Option<usize> {
    leading_number(&text[find(text, mark)? + mark.len()..]).map(|n| n.min(REPEAT_MAX))
}

fn leading_number(text: &str) -> Option<usize> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text[..digits].parse().ok()
}

/// What stands between a mark and the end of its line.
fn rest_of_line<'a>(text: &'a str, mark: &str) -> Option<&'a str> {
    let rest = &text[find(text, mark)? + mark.len()..];
    Some(rest.lines().next().unwrap_or_default().trim())
}

/// Where a mark begins that is not the end of a longer word.
fn find(text: &str, mark: &str) -> Option<usize> {
    text.match_indices(mark).map(|(at, _)| at).find(|&at| !text[..at].ends_with(is_word))
}

/// True when the word stands in the text by itself.
fn has_word(text: &str, word: &str) -> bool {
    text.match_indices(word)
        .any(|(at, _)| !text[..at].ends_with(is_word) && !text[at + word.len()..].starts_with(is_word))
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

#[cfg(test)]
mod tests {
    use super::super::dialect::Dialect;
    use super::super::tools::Kind;
    use super::*;
    use serde_json::{Value, json};

    fn request(messages: Value) -> Conversation {
        Dialect::Chat.conversation(&json!({
            "messages": messages,
            "tools": [{"function": {"name": "bash", "parameters": {}}}],
        }))
    }

    fn said(messages: Value) -> String {
        let text = |step: &Step| if let Step::Text(text) = step { Some(text.clone()) } else { None };
        script(&request(messages)).steps.iter().filter_map(text).collect()
    }

    #[test]
    fn say_says_exactly_its_line_and_nothing_else_is_an_echo() {
        assert_eq!(said(json!([{"role": "user", "content": "x\nSAY: two  words\nmore"}])), "two  words");
        assert_eq!(said(json!([{"role": "user", "content": "hello"}])), "echo: hello");
    }

    #[test]
    fn big_is_as_big_as_it_says() {
        assert_eq!(said(json!([{"role": "user", "content": "BIG:3"}])).len(), 3 << 10);
    }

    #[test]
    fn several_tool_lines_make_one_call_a_turn_and_then_a_text() {
        let user = json!({"role": "user", "content": "TOOL:bash one\nTOOL:bash two"});
        let result = json!({"role": "tool", "content": "fine"});
        let first = script(&request(json!([user]))).steps;
        let second = script(&request(json!([user, result]))).steps;
        let call = |command| {
            Step::Call(Call {
                name: "bash".into(),
                kind: Kind::Function,
                arguments: json!({"command": command}),
            })
        };
        assert!(first.contains(&call("one")) && !first.contains(&call("two")));
        assert!(second.contains(&call("two")) && second.ends_with(&[Step::Stop(Finish::Tool)]));
        assert_eq!(said(json!([user, result, result])), "Done after 2 tool result(s). Last: fine");
    }

    #[test]
    fn recall_lists_only_what_came_before() {
        let messages = json!([
            {"role": "user", "content": "SAY: a"}, {"role": "assistant", "content": "a"},
            {"role": "user", "content": "RECALL"},
        ]);
        assert_eq!(said(messages), "RECALL 1 prior user turns: SAY: a");
    }

    #[test]
    fn a_failure_is_read_with_its_tries() {
        let of = |text: &str| failure(text).map(|failure| (failure.status, failure.tries));
        assert_eq!(of("FAIL:429x2"), Some((429, Some(2))));
        assert_eq!(of("please FAIL:500"), Some((500, None)));
        assert_eq!(of("FAIL:12"), None);
        assert_eq!(of("FAIL:abc"), None);
        assert_eq!(of("FAIL:99é"), None);
    }

    #[test]
    fn a_directive_within_a_longer_word_is_none() {
        assert!(!has_directive("ESSAY: LENGTH DROPPED"));
        assert!(has_directive("say HANG."));
    }

    #[test]
    fn a_side_request_runs_no_directive() {
        let no_tools =
            Dialect::Chat.conversation(&json!({"messages": [{"role": "user", "content": "FAIL:500"}]}));
        let script = script(&no_tools);
        assert!(script.side && script.failure.is_none());
        assert_eq!(script.steps, [Step::Text(SIDE_ANSWER.into()), Step::Stop(Finish::End)]);
        let question = request(json!([{"role": "user", "content": "[SUGGESTION MODE: after HANG]"}]));
        assert!(super::script(&question).side);
    }
}
