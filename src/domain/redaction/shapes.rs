//! The shapes of well-known tokens: what each begins with, and the letters that it goes on with. Looks at one place of a text;
//! what it answers depends on the text alone, never on the pieces in which it came.

use super::{Begins, VALUE_BYTES_MIN, pem};

/// Letters that a shape may take while nothing has decided, in bytes; what goes on longer is none.
const UNDECIDED_BYTES_MAX: usize = 256;
/// The same of a JWT's head, which names its key.
const JWT_HEAD_BYTES_MAX: usize = 1024;
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
    /// Words joined by hyphens look like it: there must be a digit or a capital.
    mixed: bool,
}

const fn token(begins: &'static str, letters: Letters, bytes_min: usize) -> Token {
    Token { begins: begins.as_bytes(), letters, bytes_min, mixed: false }
}

const fn mixed(begins: &'static str, letters: Letters, bytes_min: usize) -> Token {
    Token { mixed: true, ..token(begins, letters, bytes_min) }
}

/// As their makers document them, each with a margin: lengths have changed before. Where one begins as another does, the
/// one that asks for less comes first.
const TOKENS: [Token; 33] = [
    // OpenAI, Anthropic, OpenRouter and those who speak as they do.
    mixed("sk-", Letters::Name, 16),
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
    mixed("glpat-", Letters::Name, 16),
    mixed("glptt-", Letters::Name, 16),
    mixed("gldt-", Letters::Name, 16),
    mixed("glrt-", Letters::Name, 16),
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
    mixed("pypi-", Letters::Name, 16),
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
            b':' => password(text, at),
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
            // The end of a text ends an address.
            Verdict::Wait if text[at] == b':' => {
                let start = at.saturating_sub(LOOK_BACK_BYTES);
                match password(&[&text[start..], b" "].concat(), at - start) {
                    Verdict::Secret(Found { from, to, goes_on }) => {
                        Verdict::Secret(Found { from: from + start, to: to + start, goes_on })
                    }
                    _ if is_no_port(&text[at + 1..]) => Verdict::value(at + 1, text.len()),
                    _ => Verdict::Nothing,
                }
            }
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
        run(text, at, at + common, self.letters, |run| {
            let mixed =
                !self.mixed || run.iter().any(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase());
            run.len() >= self.bytes_min && mixed
        })
    }
}

/// A secret from `from` on, when what stands at `at` is enough of it.
fn run(text: &[u8], from: usize, at: usize, letters: Letters, enough: impl Fn(&[u8]) -> bool) -> Verdict {
    // No more than decides, or a text of beginnings would be read again and again to its end.
    let bytes = letters.run(&text[at..], UNDECIDED_BYTES_MAX);
    if enough(&text[at..at + bytes]) {
        return Verdict::Secret(Found { from, to: at + bytes, goes_on: GoesOn::With(letters) });
    }
    if at + bytes == text.len() && bytes < UNDECIDED_BYTES_MAX { Verdict::Wait } else { Verdict::Nothing }
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
    let head = Letters::Name.run(here, JWT_HEAD_BYTES_MAX);
    match here.get(head) {
        _ if head == JWT_HEAD_BYTES_MAX => Verdict::Nothing,
        None => Verdict::Wait,
        Some(b'.') if head >= 12 => run(text, at, at + head + 1, Letters::Name, |run| run.len() >= 12),
        Some(_) => Verdict::Nothing,
    }
}

/// The password of `scheme://user:password@host`, from behind the colon on.
fn password(text: &[u8], at: usize) -> Verdict {
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

/// As `YOUR_API_KEY`.
fn is_of_capitals(text: &[u8]) -> bool {
    text.iter().all(|byte| byte.is_ascii_uppercase() || *byte == b'_')
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
        Some(b' ') if named => run(text, at + 2, at + 2, Letters::Token68, |run| run.len() >= 8),
        Some(b' ') => run(text, at + 2, at + 2, Letters::Token68, |run| {
            run.len() >= 20 && run.iter().any(u8::is_ascii_digit)
        }),
        Some(_) => Verdict::Nothing,
    }
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
