//! Private keys as they stand in files: from `-----BEGIN … PRIVATE KEY-----` to `-----END …-----`, however the lines between are
//! numbered, indented or escaped.

/// What each begins with.
pub(super) const BEGINS: &[u8] = b"-----BEGIN ";
const ENDS: &[u8] = b"-----END ";
/// Longest kind of key: `ENCRYPTED`, `OPENSSH`, `PGP`, …
const KIND_BYTES_MAX: usize = 64;
/// Longest line of a header within a key, and most blanks before its last line.
const LINE_BYTES_MAX: usize = 512;
const BLANKS_MAX: usize = 64;
/// A word of so many letters is no word.
const WORD_BYTES_MAX: usize = 16;

/// What stands at a place.
pub(super) enum Header<T> {
    /// No key.
    None,
    /// More text would decide.
    Wait,
    /// A key begins.
    Whole(T),
}

impl<T> Header<T> {
    pub(super) fn map<U>(self, change: impl FnOnce(T) -> U) -> Header<U> {
        match self {
            Self::None => Header::None,
            Self::Wait => Header::Wait,
            Self::Whole(value) => Header::Whole(change(value)),
        }
    }
}

/// The length of the header at the beginning of the text. One that is only quoted, in a program that looks for it, begins no key.
pub(super) fn header(text: &[u8]) -> Header<usize> {
    match line(text, BEGINS) {
        Header::Whole(bytes) if !holds(&text[BEGINS.len()..bytes], b"PRIVATE KEY") => Header::None,
        Header::Whole(bytes) => match text.get(bytes) {
            None => Header::Wait,
            Some(b'"' | b'\'' | b'`' | b')' | b',' | b';' | b'.') => Header::None,
            Some(_) => Header::Whole(bytes),
        },
        other => other,
    }
}

/// How a key goes on at a place.
pub(super) enum Next {
    /// So many bytes more are of it.
    Key(usize),
    /// So many more, and it is over.
    Last(usize),
    /// More text would decide.
    Wait,
}

/// Goes one step on; `before` is the byte before, `text` never empty.
pub(super) fn next(before: u8, text: &[u8]) -> Next {
    if text[0] == b'-' {
        return match line(text, ENDS) {
            Header::Whole(bytes) => Next::Last(bytes),
            Header::Wait => Next::Wait,
            Header::None => Next::Key(1),
        };
    }
    if !before.is_ascii_whitespace() || !text[0].is_ascii_alphabetic() {
        return Next::Key(1);
    }
    // The beginning of a word: a line of the key, a header within the key, or ordinary text behind a key that has no end.
    let letters = text.iter().position(|byte| !byte.is_ascii_alphabetic()).unwrap_or(text.len());
    match &text[letters..] {
        _ if letters >= WORD_BYTES_MAX => Next::Key(letters),
        [] => Next::Wait,
        [b':', ..] => match text.iter().take(LINE_BYTES_MAX).position(|byte| *byte == b'\n') {
            Some(line) => Next::Key(line),
            None if text.len() >= LINE_BYTES_MAX => Next::Key(letters),
            None => Next::Wait,
        },
        [b',' | b'.' | b';' | b'!' | b'?' | b')', ..] => Next::Last(0),
        rest @ [blank, ..] if blank.is_ascii_whitespace() => {
            let blanks = rest.iter().take(BLANKS_MAX).position(|byte| !may_lead(*byte));
            match blanks.map(|blanks| line(&rest[blanks..], ENDS)) {
                // The last line of a key can look like a word.
                Some(Header::Whole(_)) => Next::Key(letters),
                Some(Header::None) => Next::Last(0),
                None if rest.len() >= BLANKS_MAX => Next::Last(0),
                Some(Header::Wait) | None => Next::Wait,
            }
        }
        _ => Next::Key(letters),
    }
}

/// Stands before a line: blanks, its number, what quotes it, and the arrow that some tools put there.
fn may_lead(byte: u8) -> bool {
    byte.is_ascii_whitespace()
        || byte.is_ascii_digit()
        || b"|:>".contains(&byte)
        || "→".as_bytes().contains(&byte)
}

/// The length of `-----BEGIN …-----` or `-----END …-----`.
fn line(text: &[u8], begins: &[u8]) -> Header<usize> {
    let common = begins.iter().zip(text).take_while(|(a, b)| a == b).count();
    if common < begins.len() {
        return if common == text.len() { Header::Wait } else { Header::None };
    }
    let rest = &text[common..];
    let kind = |byte: &u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || *byte == b' ';
    let bytes = rest.iter().position(|byte| !kind(byte)).unwrap_or(rest.len());
    let (dashes, wanted) = (&rest[bytes..], b"-----");
    let there = wanted.iter().zip(dashes).take_while(|(a, b)| a == b).count();
    match there {
        _ if bytes > KIND_BYTES_MAX => Header::None,
        5 => Header::Whole(common + bytes + 5),
        there if there == dashes.len() => Header::Wait,
        _ => Header::None,
    }
}

fn holds(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|window| window == word)
}
