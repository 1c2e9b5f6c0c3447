//! Private keys as they stand in files: from `-----BEGIN … PRIVATE KEY-----` to `-----END …-----`, however the lines between are
//! numbered, indented or escaped.

/// What each begins with.
pub(super) const BEGINS: &[u8] = b"-----BEGIN ";
const ENDS: &[u8] = b"-----END ";
/// Longest kind of key: `ENCRYPTED`, `OPENSSH`, `PGP`, …
const KIND_BYTES_MAX: usize = 64;
/// Longest line of a header within a key, and most blanks before its last line.
const LINE_BYTES_MAX: usize = 256;
const BLANKS_MAX: usize = 64;
/// Longest name of such a header.
const NAME_BYTES_MAX: usize = 32;
/// How far behind its first line a key shows itself, and by how many letters.
const OPENING_BYTES_MAX: usize = 100;
const OPENING_LETTERS_MIN: usize = 16;
/// Longest key without an end: RSA of 16,384 bits, with its numbers of lines, is shorter.
pub(super) const KEY_BYTES_MAX: usize = 16 << 10;
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

/// The length of the header at the beginning of the text. One that is only spoken of, or stands in a program that looks for it,
/// begins no key: letters of one have to follow.
pub(super) fn header(text: &[u8]) -> Header<usize> {
    match line(text, BEGINS) {
        Header::Whole(bytes) if !holds(&text[BEGINS.len()..bytes], b"PRIVATE KEY") => Header::None,
        Header::Whole(bytes) => opening(&text[bytes..]).map(|()| bytes),
        other => other,
    }
}

/// Letters of a key, or a header within it, stand there, behind no more than what leads to the next line.
fn opening(text: &[u8]) -> Header<()> {
    let (mut at, mut new_line) = (0, false);
    while at < OPENING_BYTES_MAX {
        let rest = &text[at..];
        let letters = rest.iter().take(OPENING_LETTERS_MIN).take_while(|byte| is_base64(**byte)).count();
        if letters == OPENING_LETTERS_MIN && rest[..letters].iter().any(u8::is_ascii_uppercase) {
            return Header::Whole(());
        }
        if letters == rest.len() {
            return Header::Wait;
        }
        match rest {
            [b'\\', b'n' | b'r' | b't', ..] => at += 2,
            [b'%', b'0', b'A' | b'D' | b'a' | b'd', ..] | [b'%', b'2', b'0', ..] => at += 3,
            [b'\\' | b'%'] | [b'%', b'0' | b'2'] => return Header::Wait,
            [byte, ..] if may_lead(*byte) || b"\\-\"'+,".contains(byte) => at += 1,
            [first, ..] if new_line && first.is_ascii_uppercase() => return name(rest),
            _ => return Header::None,
        }
        new_line |= matches!(rest[0], b'\n' | b'\\' | b'%');
    }
    Header::None
}

/// A header's name and its colon, as `Proc-Type:`.
fn name(text: &[u8]) -> Header<()> {
    let is_of_name = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'-';
    match text.iter().take(NAME_BYTES_MAX).position(|byte| !is_of_name(byte)) {
        Some(end) if text[end] == b':' => Header::Whole(()),
        None if text.len() < NAME_BYTES_MAX => Header::Wait,
        Some(_) | None => Header::None,
    }
}

fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"+/=".contains(&byte)
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

/// Goes one step on; `before` is the byte before, `text` never empty. What cannot stand in a key ends it: other scripts, code, and
/// what a shell would read, which has to be seen by whoever is asked to allow it.
pub(super) fn next(before: u8, text: &[u8]) -> Next {
    match text[0] {
        b'-' => match line(text, ENDS) {
            Header::Whole(bytes) => Next::Last(bytes),
            Header::Wait => Next::Wait,
            Header::None => Next::Key(1),
        },
        first if first.is_ascii_alphabetic() && before.is_ascii_whitespace() => word(text),
        b'"' | b'\'' => quote(text),
        b'|' | b'>' if before.is_ascii_digit() || before.is_ascii_whitespace() => Next::Key(1),
        // How tools set the number of a line apart.
        _ if (before.is_ascii_digit() || before.is_ascii_whitespace())
            && text.starts_with("→".as_bytes()) =>
        {
            Next::Key("→".len())
        }
        _ if (before.is_ascii_digit() || before.is_ascii_whitespace())
            && text.starts_with("│".as_bytes()) =>
        {
            Next::Key("│".len())
        }
        first if is_base64(first) || first.is_ascii_whitespace() => Next::Key(1),
        first if b"\\:,*#%_\x1b[".contains(&first) => Next::Key(1),
        _ => Next::Last(0),
    }
}

/// A quote ends a key, unless the next string is joined to it.
fn quote(text: &[u8]) -> Next {
    let joins = |byte: &u8| byte.is_ascii_whitespace() || b"+,".contains(byte);
    match text[1..].iter().take(BLANKS_MAX).position(|byte| !joins(byte)) {
        Some(blanks) if blanks > 0 && text[1 + blanks] == text[0] => Next::Key(blanks + 2),
        None if text.len() <= BLANKS_MAX => Next::Wait,
        Some(_) | None => Next::Last(0),
    }
}

/// The beginning of a word: a line of the key, a header within the key, or ordinary text behind a key that has no end.
fn word(text: &[u8]) -> Next {
    let letters = text.iter().position(|byte| !byte.is_ascii_alphabetic()).unwrap_or(text.len());
    match &text[letters..] {
        _ if letters >= WORD_BYTES_MAX => Next::Key(letters),
        [] => Next::Wait,
        [b':', ..] if text[0].is_ascii_uppercase() => header_line(text),
        [b':' | b',' | b'.' | b';' | b'!' | b'?' | b')', ..] => Next::Last(0),
        [b'-', ..] if text[0].is_ascii_uppercase() => match name(text) {
            Header::Whole(()) => header_line(text),
            Header::Wait => Next::Wait,
            Header::None => Next::Key(letters),
        },
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

fn header_line(text: &[u8]) -> Next {
    match text.iter().take(LINE_BYTES_MAX).position(|byte| b"\n;&|$`\\".contains(byte) || !byte.is_ascii()) {
        Some(end) if matches!(text[end], b'\n' | b'\\') => Next::Key(end),
        None if text.len() < LINE_BYTES_MAX => Next::Wait,
        Some(_) | None => Next::Last(0),
    }
}

/// Stands before a line: blanks, its number, what quotes it, and the arrow that some tools put there.
fn may_lead(byte: u8) -> bool {
    byte.is_ascii_whitespace()
        || byte.is_ascii_digit()
        || b"|:>".contains(&byte)
        || "→│".as_bytes().contains(&byte)
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
