//! Commands as words. What a shell would read as more than words has none: no rule can know what it does.

/// Longest command that is looked at, in bytes.
const COMMAND_BYTES_MAX: usize = 16 << 10;
/// What a shell may read as the end of a command, as another file, as another program's output or as another word. Refused
/// within quotes too: whose quotes they are, only the shell that runs them knows.
const MORE_THAN_WORDS: &str = ";&|<>(){}$`\\!#^";
/// Programs that run what follows them.
const RUNNERS: [&str; 15] = [
    "bash", "sh", "zsh", "dash", "fish", "env", "sudo", "eval", "exec", "xargs", "nohup", "time", "command",
    "doas", "su",
];
/// What is itself within quotes and, outside of them, names of files, a home, an assignment: `rm "*"` is not `rm *`.
const PLAIN_IN_QUOTES: [char; 6] = ['*', '?', '[', ']', '~', '='];
/// Each of these within quotes is the character of the private use area at this place and on.
const MARKS: char = '\u{E000}';

/// The words of one plain command; `None` when it is not one. What quotes have made plain is marked, so that it equals only
/// itself.
pub(super) fn words(command: &str) -> Option<Vec<String>> {
    // Agents end a command with a line break at times.
    let command = command.trim_end_matches('\n');
    if command.len() > COMMAND_BYTES_MAX || command.chars().any(is_more_than_words) {
        return None;
    }
    shlex::split(&marked(command)).filter(|words| !words.is_empty())
}

fn is_more_than_words(c: char) -> bool {
    MORE_THAN_WORDS.contains(c)
        || (c.is_control() && c != '\t')
        || (c.is_whitespace() && !" \t".contains(c))
        // Stands in rows for what could not be stored, and is said of what could not be read.
        || c == char::REPLACEMENT_CHARACTER
        || ('\u{E000}'..='\u{F8FF}').contains(&c)
}

/// With marks for what quotes make plain. There are no escapes left, so that a quote ends where the next one like it stands.
fn marked(command: &str) -> String {
    let mut quote = None;
    let mark = |c: char| {
        match quote {
            None if "'\"".contains(c) => quote = Some(c),
            Some(open) if open == c => quote = None,
            Some(_) => return mark_of(c),
            None => {}
        }
        c
    };
    command.chars().map(mark).collect()
}

fn mark_of(c: char) -> char {
    let marks = (MARKS..).zip(PLAIN_IN_QUOTES);
    marks.into_iter().find(|(_, plain)| *plain == c).map_or(c, |(mark, _)| mark)
}

/// Without the marks, for looking through quotes.
fn unmarked(word: &str) -> String {
    let plain =
        |c: char| (MARKS..).zip(PLAIN_IN_QUOTES).find(|(mark, _)| *mark == c).map_or(c, |(_, plain)| plain);
    word.chars().map(plain).collect()
}

/// Would these words, with others behind them, allow any command?
pub(super) fn runs_whatever_follows(words: &[String]) -> bool {
    let Some((program, rest)) = words.split_first() else { return true };
    let option = |word: &String| word.starts_with('-') || word.contains('=');
    RUNNERS.contains(&name(program)) && rest.iter().all(option)
}

/// Is that plain command these words, or what another one runs at its end or from a script in quotes?
pub(super) fn ends_with(command: &str, asked: &[String], words: &[String]) -> bool {
    let at_end = |command: &str| found(command, words).any(|behind| behind == 0);
    at_end(command) || asked.iter().filter(|word| word.contains(' ')).any(|word| at_end(&unmarked(word)))
}

/// Do these words stand in it one after the other, as a command or a part of one? Whatever joins its parts, quotes and
/// escapes are looked through; what a shell would only make by running it is not.
pub(super) fn says(command: &str, words: &[String]) -> bool {
    found(command, words).next().is_some()
}

/// Where the words stand: how many others follow them.
fn found(command: &str, words: &[String]) -> impl Iterator<Item = usize> {
    // A comma parts words where braces are choices.
    let braces = command.contains('{');
    let parts = |c: char| MORE_THAN_WORDS.contains(c) || (braces && c == ',');
    let spelled: String = command
        .replace("\\\n", "")
        .chars()
        .filter(|c| !"'\"\\".contains(*c))
        .map(|c| if parts(c) { ' ' } else { c })
        .collect();
    let spelled: Vec<String> = spelled.split_whitespace().map(str::to_owned).collect();
    // A word in quotes may hold spaces, and what parts words; a comma is only one of these beside braces.
    let sought: Vec<String> = words
        .iter()
        .flat_map(|word| {
            let word = if braces { unmarked(word).replace(',', " ") } else { unmarked(word) };
            word.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
        })
        .collect();
    let last = (spelled.len() + 1).saturating_sub(sought.len());
    (0..last).filter_map(move |from| {
        let said = &spelled[from..from + sought.len()];
        let stands = match (said.split_first(), sought.split_first()) {
            (Some((program, rest)), Some((wanted, others))) => {
                (program == wanted || name(program) == wanted) && rest == others
            }
            _ => true,
        };
        stands.then(|| spelled.len() - from - sought.len())
    })
}

/// A program's name, without the folders that it lies in.
fn name(program: &str) -> &str {
    program.rsplit('/').next().unwrap_or(program)
}
