//! A text that is told piece by piece, and must be told on at once: held back is only an end that may be the beginning of a
//! secret. What goes out depends on the text, not on where it was cut.

use super::shapes::{Found, GoesOn, LOOK_BACK_BYTES, Verdict};
use super::{REDACTED, Redactor, pem};

/// The state of one text.
#[derive(Default)]
pub struct Stream {
    /// What was told last, for looks back, and what is held.
    held: String,
    at: Place,
}

/// How far a text was read and told.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// Looked at up to here.
    seen: usize,
    /// Told or taken out up to here; beyond `seen` when a text was told before it was decided.
    told: usize,
    /// Within a secret.
    within: GoesOn,
}

impl Default for Place {
    fn default() -> Self {
        Self { seen: 0, told: 0, within: GoesOn::Not }
    }
}

impl Stream {
    /// Takes a piece; gives what can be told.
    pub fn push(&mut self, redactor: &Redactor, piece: &str) -> String {
        self.held.push_str(piece);
        let mut out = String::with_capacity(piece.len() + REDACTED.len());
        self.at = read(redactor, &self.held, self.at, false, &mut out);
        self.forget();
        out
    }

    /// Gives the rest: something else is told in between. A secret that began before is still recognised when the text goes on,
    /// and its rest taken out.
    pub fn pause(&mut self, redactor: &Redactor) -> String {
        let mut out = String::new();
        self.at = read(redactor, &self.held, self.at, true, &mut out);
        self.forget();
        out
    }

    /// The same where the text is over, as far as anybody can know: should one follow, its first word is not taken for the rest of
    /// a token, or of a private key that had no end.
    pub fn release(&mut self, redactor: &Redactor) -> String {
        let out = self.pause(redactor);
        self.at.within = GoesOn::Not;
        out
    }

    fn forget(&mut self) {
        let start = self.held.floor_char_boundary(self.at.seen.saturating_sub(LOOK_BACK_BYTES));
        if start > 0 {
            self.held.drain(..start);
            self.at.seen -= start;
            self.at.told -= start;
        }
    }
}

pub(super) fn whole(redactor: &Redactor, text: String) -> String {
    let mut out = String::new();
    let mut at = read(redactor, &text, Place::default(), false, &mut out);
    if at.told < text.len() {
        // Only what is undecided is looked at once more.
        at = read(redactor, &text, at, true, &mut out);
    }
    debug_assert_eq!(at.told, text.len());
    if out.len() == text.len() && out == text { text } else { out }
}

pub(super) fn so_far(redactor: &Redactor, text: String) -> String {
    let mut out = String::with_capacity(text.len());
    read(redactor, &text, Place::default(), false, &mut out);
    out
}

/// Reads on. A text that has `ended` is told to its last letter, yet remembered from where it is undecided.
fn read(redactor: &Redactor, text: &str, place: Place, ended: bool, out: &mut String) -> Place {
    let bytes = text.as_bytes();
    let Place { mut seen, mut told, mut within } = place;
    let mut undecided = None;
    // A secret was told up to where it was recognised; what is taken out from there on is not yet said to be.
    let mut owes_a_mark = false;
    let tell = |told: &mut usize, up_to: usize, out: &mut String| {
        if up_to > *told {
            out.push_str(&text[*told..up_to]);
            *told = up_to;
        }
    };
    while seen < bytes.len() {
        if within != GoesOn::Not {
            let over;
            (seen, over) = rest_of(bytes, seen, &mut within);
            if seen > told {
                if owes_a_mark {
                    out.push_str(REDACTED);
                }
                told = seen;
            }
            if !over {
                break;
            }
            (within, owes_a_mark) = (GoesOn::Not, false);
            continue;
        }
        if !redactor.may_begin(bytes, seen) {
            seen += 1;
            continue;
        }
        let verdict = match redactor.look(bytes, seen) {
            Verdict::Wait if ended => {
                undecided.get_or_insert(seen);
                redactor.look_at_end(bytes, seen)
            }
            verdict => verdict,
        };
        match verdict {
            Verdict::Nothing => seen += 1,
            Verdict::Wait => break,
            Verdict::Secret(Found { from, to, goes_on }) => {
                tell(&mut told, from, out);
                if to > told {
                    out.push_str(REDACTED);
                    told = to;
                } else {
                    owes_a_mark = true;
                }
                (seen, within) = (to, goes_on);
            }
        }
    }
    if !ended {
        tell(&mut told, seen, out);
        return Place { seen, told, within };
    }
    // Of a token that may go on a full stop is left at most; of a key nothing that may be told.
    if !matches!(within, GoesOn::Key { .. }) {
        tell(&mut told, bytes.len(), out);
        seen = bytes.len();
    }
    let (seen, within) = undecided.map_or((seen, within), |seen| (seen, GoesOn::Not));
    Place { seen, told: bytes.len(), within }
}

/// Where the secret ends that goes on at `at`, and whether that is its end or only that of the text.
fn rest_of(text: &[u8], mut at: usize, within: &mut GoesOn) -> (usize, bool) {
    match within {
        GoesOn::Not => (at, true),
        GoesOn::With(letters) => {
            while let Some(byte) = text.get(at) {
                let joins = *byte == b'.';
                match text.get(at + 1) {
                    _ if letters.has(*byte) => {}
                    Some(next) if joins && letters.has(*next) => {}
                    // A full stop, or a part more: the next letter tells.
                    None if joins => return (at, false),
                    _ => return (at, true),
                }
                at += 1;
            }
            (at, false)
        }
        GoesOn::Key { bytes: read } => {
            while at < text.len() && *read < pem::KEY_BYTES_MAX {
                match pem::next(text[at - 1], &text[at..]) {
                    pem::Next::Key(bytes) => {
                        // To the byte, or it would matter where the text was cut; but within no letter.
                        let left = pem::KEY_BYTES_MAX - *read;
                        let bytes = if text[at].is_ascii() { bytes.min(left) } else { bytes };
                        (at, *read) = (at + bytes, *read + bytes);
                    }
                    pem::Next::Last(bytes) => return (at + bytes, true),
                    pem::Next::Wait => return (at, false),
                }
            }
            (at, *read >= pem::KEY_BYTES_MAX)
        }
    }
}
