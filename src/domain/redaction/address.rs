//! Passwords in addresses: `scheme://user:password@host`. Takes out nothing that a shell would read as syntax, and no port.

use super::VALUE_BYTES_MIN;
use super::shapes::{Found, LOOK_BACK_BYTES, UNDECIDED_BYTES_MAX, Verdict, is_of_capitals};

/// The password of `scheme://user:password@host`, from behind the colon on.
pub(super) fn password(text: &[u8], at: usize) -> Verdict {
    let back = &text[at.saturating_sub(LOOK_BACK_BYTES)..at];
    let user = back.iter().rev().take_while(|byte| is_of_user(**byte)).count();
    if !back[..back.len() - user].ends_with(b"://") {
        return Verdict::Nothing;
    }
    let rest = &text[at + 1..];
    let ends = |byte: &u8| !is_of_password(*byte) && *byte != b':' && *byte != b'@';
    let Some(end) = rest.iter().take(UNDECIDED_BYTES_MAX).position(ends) else {
        return if rest.len() < UNDECIDED_BYTES_MAX { Verdict::Wait } else { Verdict::Nothing };
    };
    match rest[..end].iter().rposition(|byte| *byte == b'@') {
        // The hash of a container's image, behind its tag.
        Some(bytes) if rest[bytes..].starts_with(b"@sha256:") => Verdict::Nothing,
        Some(bytes) if !is_placeholder(&rest[..bytes]) => Verdict::value(at + 1, at + 1 + bytes),
        Some(_) | None => Verdict::Nothing,
    }
}

/// The same, of a text that has ended, where more would decide: its end ends the address.
pub(super) fn password_at_end(text: &[u8], at: usize) -> Verdict {
    let start = at.saturating_sub(LOOK_BACK_BYTES);
    match password(&[&text[start..], b" "].concat(), at - start) {
        Verdict::Secret(Found { from, to, goes_on }) => {
            Verdict::Secret(Found { from: from + start, to: to + start, goes_on })
        }
        _ if is_no_port(&text[at + 1..]) => Verdict::value(at + 1, text.len()),
        Verdict::Nothing | Verdict::Wait => Verdict::Nothing,
    }
}

fn is_of_user(byte: u8) -> bool {
    !byte.is_ascii_whitespace() && !byte.is_ascii_control() && !b"/?#@:\"'`<>[]()\\".contains(&byte)
}

/// Can stand in an address as it is, and is no syntax of a shell: a command must not pass for a password.
fn is_of_password(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%!*+,=".contains(&byte)
}

/// A password whose host has not been told: what ends a text behind such a colon, and is neither a port nor the tag or the hosts
/// that may stand there. One with a host was looked at already, and was found to be a placeholder.
fn is_no_port(text: &[u8]) -> bool {
    text.len() >= VALUE_BYTES_MIN
        && !text.contains(&b'@')
        && !text[0].is_ascii_digit()
        && text.iter().any(u8::is_ascii_digit)
        && text.iter().any(u8::is_ascii_alphabetic)
}

/// What documents write where a password goes. What a shell or a template puts in (`$NAME`, `{name}`, `<name>`) is none anyway.
fn is_placeholder(password: &[u8]) -> bool {
    match password {
        [] | [b'%', b's'] | b"PASSWORD" | b"PASSWD" | b"PASS" => true,
        letters => {
            letters.iter().all(|byte| *byte == b'*') || letters.contains(&b'_') && is_of_capitals(letters)
        }
    }
}
