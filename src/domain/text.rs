//! The one choke point between what agents say and everything that stores or shows it.

use serde_json::Value;

/// Longest text of one event that is stored, in bytes; the rest is cut with a mark.
pub const EVENT_BYTES_MAX: usize = 4 << 20;

/// Replaces NUL, which Postgres refuses in `text` (22021), by U+FFFD.
pub fn clean(text: String) -> String {
    if text.contains('\0') { text.replace('\0', "\u{FFFD}") } else { text }
}

/// Bytes that claim to be text: broken UTF-8 and NUL become U+FFFD.
pub fn clean_bytes(bytes: &[u8]) -> String {
    clean(String::from_utf8_lossy(bytes).into_owned())
}

/// JSON on its way into `jsonb`, which refuses `\u0000` (22P05) in keys and values alike.
/// Lone surrogates cannot occur: serde_json refuses them when it reads.
pub fn clean_json(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(clean(text)),
        Value::Array(items) => Value::Array(items.into_iter().map(clean_json).collect()),
        Value::Object(fields) => {
            Value::Object(fields.into_iter().map(|(key, item)| (clean(key), clean_json(item))).collect())
        }
        plain @ (Value::Null | Value::Bool(_) | Value::Number(_)) => plain,
    }
}

/// Cuts at a character boundary, with a mark that says how much is missing.
pub fn cut(text: String, bytes_max: usize) -> String {
    if text.len() <= bytes_max {
        return text;
    }
    let end = text.floor_char_boundary(bytes_max);
    format!("{}… [{} bytes cut]", &text[..end], text.len() - end)
}

/// The same between two words, where there are two: half a secret at the cut would not be recognised as one any more.
pub fn cut_between_words(text: String, bytes_max: usize) -> String {
    let end = text.floor_char_boundary(bytes_max);
    match text[..end].rfind(char::is_whitespace) {
        Some(blank) if end < text.len() => cut(text, blank),
        Some(_) | None => cut(text, bytes_max),
    }
}

/// The last words of a text, at most so many bytes; the first of them is whole, too.
pub fn last_words(text: &str, bytes_max: usize) -> &str {
    let begin = text.ceil_char_boundary(text.len().saturating_sub(bytes_max));
    let words = &text[begin..];
    match words.split_once(char::is_whitespace) {
        Some((_, whole)) if begin > 0 => whole,
        Some(_) | None => words,
    }
}

/// The element that a conversation told again stands in, within the prompt of its next turn.
pub const RETOLD: &str = "conversation_so_far";

/// The text without its `<name>…</name>`s; one that is not closed stays.
pub fn without_elements(text: &str, name: &str) -> String {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let mut text = text.to_owned();
    while let Some(from) = text.find(&open) {
        let Some(length) = text[from..].find(&close) else { break };
        text.replace_range(from..from + length + close.len(), "");
    }
    text
}

/// For a terminal: control characters but newline and tab, escape sequences' ESC included, and bidi overrides
/// become U+FFFD, so that what an agent says can move no cursor and set no title.
pub fn for_terminal(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\n' | '\t' => c,
            '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}' => '\u{FFFD}',
            c if c.is_control() => '\u{FFFD}',
            c => c,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn nul_reaches_neither_text_nor_json() {
        assert_eq!(clean("a\0b".into()), "a\u{FFFD}b");
        assert_eq!(clean_bytes(b"a\xff\0"), "a\u{FFFD}\u{FFFD}");
        assert_eq!(clean_json(json!({"k\u{0}": ["\u{0}"]})), json!({"k\u{FFFD}": ["\u{FFFD}"]}));
    }

    #[test]
    fn a_cut_never_splits_a_character() {
        assert_eq!(cut("aé".into(), 2), "a… [2 bytes cut]");
        assert_eq!(cut("aé".into(), 3), "aé");
    }

    #[test]
    fn words_are_not_cut_where_there_are_two() {
        assert_eq!(cut_between_words("one two three".into(), 9), "one two… [6 bytes cut]");
        assert_eq!(cut_between_words("one two".into(), 9), "one two");
        assert_eq!(cut_between_words("éééé".into(), 3), "é… [6 bytes cut]");
        assert_eq!((last_words("one two three", 9), last_words("one two", 9)), ("three", "one two"));
        assert_eq!(last_words("onetwothree", 5), "three");
    }

    #[test]
    fn an_escape_sequence_is_harmless() {
        assert_eq!(for_terminal("\x1b]0;x\x07ok\n"), "\u{FFFD}]0;x\u{FFFD}ok\n");
    }
}
