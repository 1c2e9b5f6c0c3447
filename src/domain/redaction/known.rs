//! Values that are known to be secret, in every form in which they are looked for.

use super::VALUE_BYTES_MIN;
use std::fmt::Write;

/// The forms, by their first byte, longest first. What is held back of a text while it may be one is bounded by the longest.
#[derive(PartialEq)]
pub(super) struct Known {
    by_first: Vec<Vec<Box<[u8]>>>,
}

/// What a text begins with.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// No value.
    Nothing,
    /// The beginning of a value, or of a longer one than is there so far.
    Wait,
    /// One of so many bytes.
    Value(usize),
}

impl Known {
    pub(super) fn new(values: impl IntoIterator<Item = String>) -> Self {
        let mut by_first: Vec<Vec<Box<[u8]>>> = vec![Vec::new(); 256];
        let long_enough = |value: &String| value.len() >= VALUE_BYTES_MIN;
        let values =
            values.into_iter().flat_map(|value| [value.trim().to_owned(), value]).filter(long_enough);
        for form in values.flat_map(|value| forms(&value)).filter(long_enough) {
            by_first[usize::from(form.as_bytes()[0])].push(form.into_bytes().into());
        }
        for forms in &mut by_first {
            forms.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
            forms.dedup();
        }
        Self { by_first }
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &[u8]> {
        self.by_first.iter().flatten().map(|value| &**value)
    }

    /// The longest one at the beginning of the text.
    pub(super) fn look(&self, text: &[u8]) -> Look {
        for value in self.beginning_as(text) {
            if text.len() < value.len() && value.starts_with(text) {
                return Look::Wait;
            }
            if text.starts_with(value) {
                return Look::Value(value.len());
            }
        }
        Look::Nothing
    }

    /// The same, of a text that has ended.
    pub(super) fn look_at_end(&self, text: &[u8]) -> Option<usize> {
        self.beginning_as(text).iter().find(|value| text.starts_with(value)).map(|value| value.len())
    }

    fn beginning_as(&self, text: &[u8]) -> &[Box<[u8]>] {
        text.first().map_or(&[], |first| &self.by_first[usize::from(*first)])
    }
}

/// How programs print a value.
fn forms(value: &str) -> Vec<String> {
    let quoted = serde_json::Value::from(value).to_string();
    let escaped = quoted[1..quoted.len() - 1].to_owned();
    let twice = serde_json::Value::from(escaped.as_str()).to_string();
    let twice = twice[1..twice.len() - 1].to_owned();
    let percent = percent_encoded(value);
    let mut forms = vec![value.to_owned(), escaped, twice, lower_percent(&percent), percent];
    forms.extend(base64_cores(value.as_bytes()));
    forms
}

fn percent_encoded(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

fn lower_percent(encoded: &str) -> String {
    let mut pieces = encoded.split('%');
    let mut out = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (code, rest) = piece.split_at(2);
        out.push('%');
        out.push_str(&code.to_ascii_lowercase());
        out.push_str(rest);
    }
    out
}

/// The letters of the value's base64 that what stands before and after it cannot change, at each of the three alignments and in
/// both alphabets.
fn base64_cores(value: &[u8]) -> Vec<String> {
    let mut cores = Vec::new();
    for ahead in 0..3 {
        let bytes = [&[0; 2][..ahead], value].concat();
        // 6 bits a letter: the first one that is the value's alone, and the last.
        let (first, end) = ((ahead * 8).div_ceil(6), bytes.len() * 8 / 6);
        for alphabet in [b'+', b'-'] {
            let letters = base64(&bytes, alphabet == b'-');
            cores.push(letters[first..end].to_owned());
        }
    }
    cores
}

/// Without padding.
fn base64(bytes: &[u8], for_urls: bool) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let letter = |index: u32| match (LETTERS[(index & 63) as usize], for_urls) {
        (b'+', true) => '-',
        (b'/', true) => '_',
        (letter, _) => char::from(letter),
    };
    let mut out = String::with_capacity(bytes.len() * 4 / 3 + 4);
    for chunk in bytes.chunks(3) {
        let byte = |n: usize| u32::from(chunk.get(n).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        out.extend((0..=chunk.len() as u32).map(|n| letter(bits >> (18 - 6 * n))));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_as_others_write_it() {
        for (text, wanted) in [("f", "Zg"), ("fo", "Zm8"), ("foo", "Zm9v"), ("foob", "Zm9vYg")] {
            assert_eq!(base64(text.as_bytes(), false), wanted);
        }
        assert_eq!(
            (base64(b"\xff\xef\xbe", false), base64(b"\xff\xef\xbe", true)),
            ("/+++".into(), "_---".into())
        );
    }

    #[test]
    fn a_value_is_known_within_the_base64_of_something_longer() {
        let known = Known::new(["s3cret-value".to_owned()]);
        for ahead in ["", "u", "us", "user:"] {
            for behind in ["", "!", "!!"] {
                let letters = base64(format!("{ahead}s3cret-value{behind}").as_bytes(), false);
                let found =
                    (0..letters.len()).any(|at| known.look_at_end(&letters.as_bytes()[at..]).is_some());
                assert!(found, "{letters}");
            }
        }
    }

    #[test]
    fn the_longer_of_two_values_counts_and_short_ones_do_not() {
        let known = Known::new(["password".to_owned(), "password-9f8a".to_owned(), "short".to_owned()]);
        assert_eq!(known.look(b"password-9f8a!"), Look::Value(13));
        assert_eq!(known.look(b"password-9f"), Look::Wait);
        assert_eq!(known.look(b"password-x"), Look::Value(8));
        assert_eq!(known.look_at_end(b"password-9f"), Some(8));
        assert_eq!(known.look(b"short and more"), Look::Nothing);
    }

    #[test]
    fn forms_are_those_of_json_and_of_urls() {
        let forms = forms("a/b \"c\"\n+D");
        for wanted in ["a/b \\\"c\\\"\\n+D", "a%2Fb%20%22c%22%0A%2BD", "a%2fb%20%22c%22%0a%2bD"] {
            assert!(forms.iter().any(|form| form == wanted), "{wanted}: {forms:?}");
        }
    }
}
