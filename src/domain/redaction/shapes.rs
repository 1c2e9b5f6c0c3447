//! The shapes of well-known tokens: what each begins with, and the letters that it goes on with. Looks at one place of a text;
//! what it answers depends on the text alone, never on the pieces in which it came.

use super::{Begins, address, pem};

/// Letters that a shape may take while nothing has decided, in bytes; what goes on longer is none.
pub(super) const UNDECIDED_BYTES_MAX: usize = 256;
/// The same of a JWT's head, which names its key.
const JWT_HEAD_BYTES_MAX: usize = 1024;
/// The same of what must decide by its first letters. Every look at it costs as much, and beginnings can stand side by side.
const RUN_BYTES_MAX: usize = 64;
/// Part of a token that no word is.
const PART_BYTES_MIN: usize = 12;
/// How far apart two beginnings of a JWT are one, in bytes.
const SHORTLY_BYTES: usize = 40;
/// How far back a look goes, in bytes: for the user before a password, for the header's name before its value.
pub(super) const LOOK_BACK_BYTES: usize = 120;

/// What stands at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// No secret.
    Nothing,
    /// More text would decide.
    Wait,
    /// A secret.
    Secret(Found),
}

/// A secret in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// Its first byte.
    pub from: usize,
    /// The first byte that is certainly none of it.
    pub to: usize,
    /// What else of the text belongs to it.
    pub goes_on: GoesOn,
}

/// How a secret goes on that was recognised by its beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GoesOn {
    /// Not at all.
    Not,
    /// With these letters.
    With(Letters),
    /// To the end of a private key, of which so many bytes were read.
    Key { bytes: usize },
}

/// Letters of tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Letters {
    /// A-Z 0-9
    Capitals,
    /// A-Z a-z 0-9
    Alphanumeric,
    /// … and _
    Word,
    /// … and _ -
    Name,
    /// … and _ - . ~ + / =, as after `Bearer`.
    Token68,
}

impl Letters {
    pub(super) fn has(self, byte: u8) -> bool {
        match self {
            Self::Capitals => byte.is_ascii_uppercase() || byte.is_ascii_digit(),
            Self::Alphanumeric => byte.is_ascii_alphanumeric(),
            Self::Word => byte.is_ascii_alphanumeric() || byte == b'_',
            Self::Name => byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-',
            Self::Token68 => byte.is_ascii_alphanumeric() || b"_-.~+/=".contains(&byte),
        }
    }

    /// How many there are at the beginning of the text, at most so many.
    fn run(self, text: &[u8], bytes_max: usize) -> usize {
        let text = &text[..text.len().min(bytes_max)];
        text.iter().position(|byte| !self.has(*byte)).unwrap_or(text.len())
    }
}

/// A token that begins with a word of its own, and behind nothing that a word is made of: else the last letters of many an
/// ordinary word would have to wait.
struct Token {
    begins: &'static [u8],
    letters: Letters,
    /// So many letters at least after its beginning.
    bytes_min: usize,
    apart: Apart,
}

/// What tells a token from words joined by hyphens, where they may begin as it does.
#[derive(Clone, Copy)]
enum Apart {
    /// None begin so.
    Already,
    /// A digit or a capital.
    Digit,
    /// A part of [`PART_BYTES_MIN`] letters between hyphens that has digits and letters.
    Part,
    /// The same between hyphens or underscores.
    ShortPart,
}

impl Apart {
    /// Once true it stays so, however the text goes on.
    fn tells(self, run: &[u8]) -> bool {
        let parts = |ends: fn(&u8) -> bool| {
            run.split(ends).any(|part| {
                part.len() >= PART_BYTES_MIN
                    && part.iter().any(u8::is_ascii_digit)
                    && part.iter().any(u8::is_ascii_alphabetic)
            })
        };
        match self {
            Self::Already => true,
            Self::Digit => run.iter().any(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase()),
            Self::Part => parts(|byte| *byte == b'-'),
            Self::ShortPart => parts(|byte| b"-_".contains(byte)),
        }
    }
}

const fn token(begins: &'static str, letters: Letters, bytes_min: usize) -> Token {
    Token { begins: begins.as_bytes(), letters, bytes_min, apart: Apart::Already }
}

const fn name(begins: &'static str, apart: Apart) -> Token {
    Token { apart, ..token(begins, Letters::Name, 16) }
}

/// As their makers document them, each with a margin: lengths have changed before. Where one begins as another does, the
/// one that asks for less comes first.
const TOKENS: [Token; 33] = [
    // OpenAI, Anthropic, OpenRouter and those who speak as they do.
    name("sk-", Apart::ShortPart),
    // Stripe, and its webhooks.
    token("sk_live_", Letters::Word, 10),
    token("sk_test_", Letters::Word, 10),
    token("rk_live_", Letters::Word, 10),
    token("rk_test_", Letters::Word, 10),
    token("whsec_", Letters::Alphanumeric, 20),
    token("ghp_", Letters::Word, 20),
    token("gho_", Letters::Word, 20),
    token("ghu_", Letters::Word, 20),
    token("ghs_", Letters::Word, 20),
    token("ghr_", Letters::Word, 20),
    token("github_pat_", Letters::Word, 20),
    // GitLab: of people, triggers, deployments, runners.
    name("glpat-", Apart::Digit),
    name("glptt-", Apart::Digit),
    name("gldt-", Apart::Part),
    name("glrt-", Apart::Part),
    // Slack.
    token("xoxa-", Letters::Name, 10),
    token("xoxb-", Letters::Name, 10),
    token("xoxp-", Letters::Name, 10),
    token("xoxr-", Letters::Name, 10),
    token("xoxs-", Letters::Name, 10),
    token("xoxe-", Letters::Name, 10),
    token("xapp-", Letters::Name, 10),
    // AWS.
    token("AKIA", Letters::Capitals, 16),
    token("ASIA", Letters::Capitals, 16),
    // Google: keys, and what OAuth hands out.
    token("AIza", Letters::Name, 30),
    token("ya29.", Letters::Name, 20),
    token("npm_", Letters::Alphanumeric, 24),
    name("pypi-", Apart::ShortPart),
    token("hf_", Letters::Alphanumeric, 20),
    // Groq, xAI.
    token("gsk_", Letters::Alphanumeric, 20),
    token("xai-", Letters::Alphanumeric, 20),
    // Ours: tokens of the API, passwords of agents' servers.
    token("agp_", Letters::Alphanumeric, 16),
];

const JWT: &[u8] = b"eyJ";

/// All of them.
pub(super) struct Shapes;

impl Shapes {
    /// Tells with which bytes they begin.
    pub(super) fn begin(begins: &mut Begins) {
        let words = TOKENS.iter().map(|token| token.begins).chain([JWT, pem::BEGINS]);
        words.for_each(|word| begins.add(word[0], word[1]));
        // A password in an address stands behind a colon, a header's value behind `bearer`, `basic` or `token`.
        (0..=u8::MAX).for_each(|second| begins.add(b':', second));
        b"rRcCnN".iter().for_each(|last| begins.add(*last, b' '));
    }

    /// What stands there.
    pub(super) fn look(text: &[u8], at: usize) -> Verdict {
        let here = &text[at..];
        match here[0] {
            b':' => address::password(text, at),
            b'-' => pem::header(here)
                .map(|bytes| Found { from: at, to: at + bytes, goes_on: GoesOn::Key { bytes: 0 } })
                .into(),
            _ => {
                let found =
                    TOKENS.iter().map(|token| token.look(text, at)).find(|found| *found != Verdict::Nothing);
                found
                    .or_else(|| (here[0] == b'e').then(|| jwt(text, at)))
                    .unwrap_or_else(|| header_value(text, at))
            }
        }
    }

    /// The same, of a text that has ended: what would wait for more is nothing.
    pub(super) fn look_at_end(text: &[u8], at: usize) -> Verdict {
        match Self::look(text, at) {
            Verdict::Wait if text[at] == b':' => address::password_at_end(text, at),
            Verdict::Wait => Verdict::Nothing,
            decided => decided,
        }
    }
}

impl Token {
    fn look(&self, text: &[u8], at: usize) -> Verdict {
        let here = &text[at..];
        let common = self.begins.iter().zip(here).take_while(|(a, b)| a == b).count();
        if common == 0 || common < self.begins.len().min(here.len()) || !is_apart(text, at) {
            return Verdict::Nothing;
        }
        if common < self.begins.len() {
            return Verdict::Wait;
        }
        run(text, at, at + common, self.letters, |run| run.len() >= self.bytes_min && self.apart.tells(run))
    }
}

/// A secret from `from` on, when what stands at `at` is enough of it.
fn run(text: &[u8], from: usize, at: usize, letters: Letters, enough: impl Fn(&[u8]) -> bool) -> Verdict {
    // No more than decides, or a text of beginnings would be read again and again to its end.
    let bytes = letters.run(&text[at..], RUN_BYTES_MAX);
    if enough(&text[at..at + bytes]) {
        return Verdict::Secret(Found { from, to: at + bytes, goes_on: GoesOn::With(letters) });
    }
    if at + bytes == text.len() && bytes < RUN_BYTES_MAX { Verdict::Wait } else { Verdict::Nothing }
}

/// Nothing that a word is made of stands before; the escapes of JSON, of addresses and of terminals are no word.
fn is_apart(text: &[u8], at: usize) -> bool {
    let back = &text[at.saturating_sub(LOOK_BACK_BYTES)..at];
    let Some(last) = back.last().filter(|last| last.is_ascii_alphanumeric()) else { return true };
    let hex = |digits: &[u8]| digits.iter().all(u8::is_ascii_hexdigit);
    match back {
        [.., b'\\', b'n' | b'r' | b't' | b'b' | b'f'] => true,
        _ if *last == b'm' => {
            let before = &back[..back.len() - 1];
            let codes =
                before.iter().rev().take_while(|byte| byte.is_ascii_digit() || **byte == b';').count();
            before.len() > codes && before[before.len() - codes - 1] == b'['
        }
        _ => {
            let code = |bytes: usize, mark: &[u8]| {
                let cut = back.len().checked_sub(bytes + mark.len());
                cut.is_some_and(|cut| back[cut..].starts_with(mark) && hex(&back[back.len() - bytes..]))
            };
            code(2, b"%") || code(4, b"\\u") || code(2, b"\\x")
        }
    }
}

/// `eyJ….…`: a head in base64 that begins as an object does, and what it signs.
fn jwt(text: &[u8], at: usize) -> Verdict {
    let here = &text[at..];
    let common = JWT.iter().zip(here).take_while(|(a, b)| a == b).count();
    if common < JWT.len().min(here.len()) || !is_apart(text, at) {
        return Verdict::Nothing;
    }
    if common < JWT.len() {
        return Verdict::Wait;
    }
    if looked_at(&text[at.saturating_sub(SHORTLY_BYTES)..at]) {
        return Verdict::Nothing;
    }
    let head = Letters::Name.run(here, JWT_HEAD_BYTES_MAX);
    match here.get(head) {
        _ if head == JWT_HEAD_BYTES_MAX => Verdict::Nothing,
        None => Verdict::Wait,
        Some(b'.') if head >= 12 => run(text, at, at + head + 1, Letters::Name, |run| run.len() >= 12),
        Some(_) => Verdict::Nothing,
    }
}

/// As `YOUR_API_KEY`.
pub(super) fn is_of_capitals(text: &[u8]) -> bool {
    text.iter().all(|byte| byte.is_ascii_uppercase() || *byte == b'_')
}

/// The letters behind this are the rest of what was looked at as a head shortly before, and was none. Else each beginning in a text of
/// beginnings would be read to the same end.
fn looked_at(back: &[u8]) -> bool {
    let letters = back.iter().rev().take_while(|byte| Letters::Name.has(**byte)).count();
    let run = &back[back.len() - letters..];
    run.windows(JWT.len() + 1).any(|window| b"-_".contains(&window[0]) && window.ends_with(JWT))
}

/// What `Authorization:` says behind its scheme, from behind the blank on; `at` is the scheme's last letter. A `Bearer` alone is
/// a word of ordinary text too: then a long value with a digit is asked for.
fn header_value(text: &[u8], at: usize) -> Verdict {
    let back = &text[at.saturating_sub(LOOK_BACK_BYTES)..=at];
    let scheme = [&b"bearer"[..], b"basic", b"token"].into_iter().find(|scheme| ends_with(back, scheme));
    let Some(scheme) = scheme else { return Verdict::Nothing };
    let before = &back[..back.len() - scheme.len()];
    let between = before.iter().rev().take_while(|byte| b" :=\"'\\".contains(byte)).count();
    let (name, between) = before.split_at(before.len() - between.min(12));
    let named = ends_with(name, b"authorization") && between.iter().any(|byte| b":=".contains(byte));
    let alone = scheme == b"bearer" && before.last().is_none_or(|byte| !byte.is_ascii_alphanumeric());
    match text.get(at + 1) {
        _ if !named && !alone => Verdict::Nothing,
        None => Verdict::Wait,
        Some(b' ') if named => run(text, at + 2, at + 2, Letters::Token68, |run| {
            run.len() >= 8 && !is_of_capitals(run) && (scheme != b"basic" || is_no_word(run))
        }),
        Some(b' ') => run(text, at + 2, at + 2, Letters::Token68, |run| {
            run.len() >= 20 && run.iter().any(u8::is_ascii_digit)
        }),
        Some(_) => Verdict::Nothing,
    }
}

/// Base64 of a user and a password has one of these.
fn is_no_word(text: &[u8]) -> bool {
    text.iter().any(|byte| byte.is_ascii_digit() || *byte == b'=')
        || text[1..].iter().any(u8::is_ascii_uppercase)
}

fn ends_with(text: &[u8], word: &[u8]) -> bool {
    text.len() >= word.len() && text[text.len() - word.len()..].eq_ignore_ascii_case(word)
}

impl Verdict {
    /// A secret that is over where it ends.
    pub(super) fn value(from: usize, to: usize) -> Self {
        Self::Secret(Found { from, to, goes_on: GoesOn::Not })
    }
}

impl From<pem::Header<Found>> for Verdict {
    fn from(header: pem::Header<Found>) -> Self {
        match header {
            pem::Header::None => Self::Nothing,
            pem::Header::Wait => Self::Wait,
            pem::Header::Whole(found) => Self::Secret(found),
        }
    }
}

impl Found {
    /// Together with another secret that begins at the same place.
    pub(super) fn with(self, from: usize, to: usize) -> Self {
        Self { from: self.from.min(from), to: self.to.max(to), ..self }
    }
}
