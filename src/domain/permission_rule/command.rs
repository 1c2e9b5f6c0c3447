//! Commands as words. What a shell would read as more than words has none: no rule can know what it does.

/// Longest command that is looked at, in bytes.
const COMMAND_BYTES_MAX: usize = 16 << 10;
/// What a shell may read as the end of a command, as another file, as another program's output or as another word. Refused
/// within quotes too: whose quotes they are, only the shell that runs them knows.
const MORE_THAN_WORDS: &str = ";&|<>(){}$`\\!#";
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

/// Do these words stand in it one after the other, as a command or a part of one? Whatever joins its parts, quotes and
/// escapes are looked through; what a shell would only make by running it is not.
pub(super) fn says(command: &str, words: &[String]) -> bool {
    let spelled: String = command
        .replace("\\\n", "")
        .chars()
        .filter(|c| !"'\"\\".contains(*c))
        .map(|c| if MORE_THAN_WORDS.contains(c) { ' ' } else { c })
        .collect();
    let spelled: Vec<&str> = spelled.split_whitespace().collect();
    let words: Vec<String> = words.iter().map(|word| unmarked(word)).collect();
    // A word in quotes may hold spaces.
    let sought: Vec<&str> = words.iter().flat_map(|word| word.split_whitespace()).collect();
    let Some((program, rest)) = sought.split_first() else { return true };
    spelled.windows(sought.len()).any(|said| {
        let named = said[0] == *program || said[0].rsplit('/').next() == Some(*program);
        named && said[1..] == *rest
    })
}
