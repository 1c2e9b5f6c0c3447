//! Secrets taken out of what an agent says, before anything stores or shows it: tokens of known shapes, and the values of the
//! agent's own secret environment. Pure; never says what it took out.

mod address;
mod known;
mod named;
mod pem;
mod shapes;
mod stream;
mod turn;

pub use named::{name_says_secret, of_address, of_header, of_variable};
pub use stream::Stream;
pub use turn::TurnRedaction;

use crate::domain::permission::PermissionRequest;
use known::Known;
use serde_json::Value;
use shapes::{Shapes, Verdict};
use std::fmt;
use std::sync::{Arc, LazyLock};

/// What stands in the place of a secret.
pub const REDACTED: &str = "[redacted]";
/// A shorter value is none: it would be found in ordinary text, and is guessed sooner than read.
pub const VALUE_BYTES_MIN: usize = 8;

/// Knows secrets by their shapes and by their values. Cheap to clone.
#[derive(Clone)]
pub struct Redactor {
    inner: Arc<Inner>,
}

struct Inner {
    known: Known,
    begins: Begins,
}

static SHAPES_ALONE: LazyLock<Redactor> = LazyLock::new(|| Redactor::new([]));

impl Default for Redactor {
    /// Shapes alone.
    fn default() -> Self {
        SHAPES_ALONE.clone()
    }
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Redactor")
    }
}

impl PartialEq for Redactor {
    fn eq(&self, other: &Self) -> bool {
        self.inner.known == other.inner.known
    }
}

impl Redactor {
    /// Knows these values too, in the forms in which programs print them: as they are, escaped as in JSON, percent-encoded, and
    /// in base64 at each of its three alignments. Those below [`VALUE_BYTES_MIN`] are left alone.
    pub fn new(values: impl IntoIterator<Item = String>) -> Self {
        let known = Known::new(values);
        let mut begins = Begins::default();
        for value in known.values() {
            begins.add(value[0], value[1]);
        }
        Shapes::begin(&mut begins);
        Self { inner: Arc::new(Inner { known, begins }) }
    }

    /// A text that is whole.
    pub fn redact(&self, text: String) -> String {
        stream::whole(self, text)
    }

    /// The beginning of a text of which more will be told, whole, later: without an end that may be half a secret.
    pub fn redact_so_far(&self, text: String) -> String {
        stream::so_far(self, text)
    }

    /// Every text within, keys too.
    pub fn redact_json(&self, value: Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.redact(text)),
            Value::Array(items) => items.into_iter().map(|item| self.redact_json(item)).collect(),
            Value::Object(fields) => Value::Object(
                fields.into_iter().map(|(key, item)| (self.redact(key), self.redact_json(item))).collect(),
            ),
            plain @ (Value::Null | Value::Bool(_) | Value::Number(_)) => plain,
        }
    }

    /// A question without secrets. Its id stays as it is: the answer has to find its way back.
    pub fn redact_question(&self, request: PermissionRequest) -> PermissionRequest {
        PermissionRequest {
            title: self.redact(request.title),
            payload: self.redact_json(request.payload),
            ..request
        }
    }

    /// Can a secret be recognised at that byte? A glance that lets most bytes pass.
    fn may_begin(&self, text: &[u8], at: usize) -> bool {
        match text.get(at + 1) {
            Some(second) => self.inner.begins.has(text[at], *second),
            None => self.inner.begins.has_first(text[at]),
        }
    }

    /// What is there. `Wait` where more text would decide.
    fn look(&self, text: &[u8], at: usize) -> Verdict {
        let shape = Shapes::look(text, at);
        if let Verdict::Secret(found) = shape
            && found.from > at
        {
            // A password is found by the colon before it; a value that is known may begin with it and go on longer.
            match self.inner.known.look(&text[found.from..]) {
                known::Look::Wait => return Verdict::Wait,
                known::Look::Value(bytes) => {
                    return Verdict::Secret(found.with(found.from, found.from + bytes));
                }
                known::Look::Nothing => {}
            }
        }
        match (shape, self.inner.known.look(&text[at..])) {
            (Verdict::Wait, _) | (_, known::Look::Wait) => Verdict::Wait,
            (shape, known::Look::Nothing) => shape,
            (Verdict::Nothing, known::Look::Value(bytes)) => Verdict::value(at, at + bytes),
            // Both: from the first letter of either to the last, and on as the shape goes on.
            (Verdict::Secret(found), known::Look::Value(bytes)) => {
                Verdict::Secret(found.with(at, at + bytes))
            }
        }
    }

    /// The same, of a text that has ended.
    fn look_at_end(&self, text: &[u8], at: usize) -> Verdict {
        match (Shapes::look_at_end(text, at), self.inner.known.look_at_end(&text[at..])) {
            (shape, None) => shape,
            (Verdict::Secret(found), Some(bytes)) => Verdict::Secret(found.with(at, at + bytes)),
            (_, Some(bytes)) => Verdict::value(at, at + bytes),
        }
    }
}

/// Which two bytes secrets begin with.
#[derive(Clone)]
struct Begins {
    first: [bool; 256],
    pairs: Box<[u64; 1024]>,
}

impl Default for Begins {
    fn default() -> Self {
        Self { first: [false; 256], pairs: Box::new([0; 1024]) }
    }
}

impl Begins {
    fn add(&mut self, first: u8, second: u8) {
        self.first[usize::from(first)] = true;
        let bit = usize::from(first) << 8 | usize::from(second);
        self.pairs[bit >> 6] |= 1 << (bit & 63);
    }

    fn has_first(&self, first: u8) -> bool {
        self.first[usize::from(first)]
    }

    fn has(&self, first: u8, second: u8) -> bool {
        let bit = usize::from(first) << 8 | usize::from(second);
        self.pairs[bit >> 6] >> (bit & 63) & 1 == 1
    }
}

#[cfg(test)]
mod tests;
