//! Reads Rust source as far as the house rules need it: words outside of comments and strings, paths, modules.

/// A word or a sign of the code, with the line it stands in (from 1).
#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    pub text: String,
    pub line: usize,
}

/// The words and signs of a file; `::` is one sign, comments and literals are none.
pub fn tokens(source: &str) -> Vec<Token> {
    let chars: Vec<char> = source.chars().collect();
    let (mut out, mut at, mut line) = (Vec::new(), 0, 1);
    while at < chars.len() {
        let next = end_of_piece(&chars, at);
        let piece = &chars[at..next];
        let is_code = match piece[0] {
            first if is_word(first) => !is_literal(piece),
            first => !first.is_whitespace() && piece.len() <= 2 && !"/\"'".contains(first),
        };
        if is_code {
            out.push(Token { text: piece.iter().collect(), line });
        }
        line += piece.iter().filter(|c| **c == '\n').count();
        at = next;
    }
    out
}

/// Where the comment, literal, word or sign that begins at `at` ends.
fn end_of_piece(chars: &[char], at: usize) -> usize {
    let starts = |text: &str| chars[at..].iter().copied().take(text.len()).eq(text.chars());
    if starts("//") {
        return position(chars, at, |c| c == '\n');
    }
    if starts("/*") {
        return end_of_block_comment(chars, at);
    }
    if let Some(end) = end_of_raw_string(chars, at) {
        return end;
    }
    if starts("b\"") || starts("c\"") {
        return end_of_quoted(chars, at + 1, '"');
    }
    match chars[at] {
        '"' => end_of_quoted(chars, at, '"'),
        // 'x' and '\n' are characters; 'x without a second quote is a lifetime, of which the quote is no sign.
        '\'' if chars.get(at + 1) == Some(&'\\') => end_of_quoted(chars, at, '\''),
        '\'' if chars.get(at + 2) == Some(&'\'') => at + 3,
        c if is_word(c) => position(chars, at, |c| !is_word(c)),
        _ if starts("::") => at + 2,
        _ => at + 1,
    }
}

fn end_of_block_comment(chars: &[char], at: usize) -> usize {
    let (mut depth, mut i) = (0, at);
    while i < chars.len() {
        match chars[i..].first_chunk() {
            Some(['/', '*']) => (depth, i) = (depth + 1, i + 2),
            Some(['*', '/']) if depth == 1 => return i + 2,
            Some(['*', '/']) => (depth, i) = (depth - 1, i + 2),
            _ => i += 1,
        }
    }
    chars.len()
}

/// `r"…"`, `r#"…"#`, `br"…"`; `r#word` is no string.
fn end_of_raw_string(chars: &[char], at: usize) -> Option<usize> {
    let prefix = usize::from(matches!(chars[at], 'b' | 'c'));
    (chars.get(at + prefix) == Some(&'r')).then_some(())?;
    let quote = position(chars, at + prefix + 1, |c| c != '#');
    (chars.get(quote) == Some(&'"')).then_some(())?;
    let hashes = quote - (at + prefix + 1);
    let closes = |i: &usize| {
        chars[*i] == '"' && chars[i + 1..].iter().take(hashes).filter(|c| **c == '#').count() == hashes
    };
    Some((quote + 1..chars.len()).find(closes).map_or(chars.len(), |i| i + 1 + hashes))
}

fn end_of_quoted(chars: &[char], at: usize, quote: char) -> usize {
    let mut i = at + 1;
    while i < chars.len() && chars[i] != quote {
        i += if chars[i] == '\\' { 2 } else { 1 };
    }
    (i + 1).min(chars.len())
}

fn position(chars: &[char], from: usize, stop: impl Fn(char) -> bool) -> usize {
    (from..chars.len()).find(|i| stop(chars[*i])).unwrap_or(chars.len())
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn is_literal(piece: &[char]) -> bool {
    piece.last() == Some(&'"') || (piece.contains(&'"') && piece.last() == Some(&'#'))
}

/// A path that the code names, from the crate's root on.
#[derive(Clone, Debug, PartialEq)]
pub struct Named {
    pub segments: Vec<String>,
    pub line: usize,
}

/// Every path of a file that begins with `crate::`, `super::` or the crate's own name, groups unfolded.
/// `module` is where the file stands; inline modules are counted.
pub fn named_paths(tokens: &[Token], module: &[String], own_name: &str) -> Vec<Named> {
    let mut inline: Vec<(usize, String)> = Vec::new();
    let (mut depth, mut out) = (0, Vec::new());
    for at in 0..tokens.len() {
        match word(tokens, at) {
            "{" => {
                depth += 1;
                if at >= 2 && word(tokens, at - 2) == "mod" {
                    inline.push((depth, word(tokens, at - 1).to_owned()));
                }
            }
            "}" => {
                inline.retain(|(opened, _)| *opened < depth);
                depth -= 1;
            }
            head if begins_path(tokens, at) => {
                let here = || module.iter().cloned().chain(inline.iter().map(|(_, name)| name.clone()));
                let base: Option<Vec<String>> = match head {
                    "super" | "self" => Some(here().collect()),
                    "crate" => Some(Vec::new()),
                    name if name == own_name => Some(Vec::new()),
                    _ => None,
                };
                if let Some(base) = base {
                    let from = if matches!(head, "super" | "self") { at } else { at + 2 };
                    unfold(tokens, from, base, &mut out);
                }
            }
            _ => {}
        }
    }
    out
}

fn begins_path(tokens: &[Token], at: usize) -> bool {
    word(tokens, at + 1) == "::" && (at == 0 || word(tokens, at - 1) != "::")
}

/// Reads one branch of a path or use tree that continues `base` and returns the index behind it.
fn unfold(tokens: &[Token], mut at: usize, mut base: Vec<String>, out: &mut Vec<Named>) -> usize {
    let line = tokens.get(at).map_or(0, |token| token.line);
    loop {
        match word(tokens, at) {
            "{" => {
                at += 1;
                while !matches!(word(tokens, at), "}" | "") {
                    at = unfold(tokens, at, base.clone(), out);
                    at += usize::from(word(tokens, at) == ",");
                }
                return at + 1;
            }
            "super" => {
                base.pop();
            }
            "self" | "*" => {}
            name if name.starts_with(is_word) => base.push(name.to_owned()),
            _ => return at + 1,
        }
        at += 1;
        if word(tokens, at) != "::" {
            break;
        }
        at += 1;
    }
    out.push(Named { segments: base, line });
    // `name as other` within a group.
    if word(tokens, at) == "as" { at + 2 } else { at }
}

/// A module that a file declares.
#[derive(Clone, Debug, PartialEq)]
pub struct Declared {
    /// Its path below the file's own module, inline modules included.
    pub path: Vec<String>,
    pub line: usize,
}

/// Every `mod name;` of a file.
pub fn declared_modules(tokens: &[Token]) -> Vec<Declared> {
    let mut inline: Vec<(usize, String)> = Vec::new();
    let (mut depth, mut out) = (0, Vec::new());
    for at in 0..tokens.len() {
        match word(tokens, at) {
            "{" => depth += 1,
            "}" => {
                inline.retain(|(opened, _)| *opened < depth);
                depth -= 1;
            }
            "mod" if word(tokens, at + 2) == "{" => {
                inline.push((depth + 1, word(tokens, at + 1).to_owned()));
            }
            "mod" if word(tokens, at + 2) == ";" && !is_borrowed(tokens, at) => {
                let mut path: Vec<String> = inline.iter().map(|(_, name)| name.clone()).collect();
                path.push(word(tokens, at + 1).to_owned());
                out.push(Declared { path, line: tokens[at].line });
            }
            _ => {}
        }
    }
    out
}

/// True for `#[path = "…"] mod x;`: the file is another crate's, which reaches it too.
fn is_borrowed(tokens: &[Token], at: usize) -> bool {
    let at = if word(tokens, at.wrapping_sub(1)) == "pub" { at - 1 } else { at };
    let before = |back: usize| word(tokens, at.wrapping_sub(back));
    (before(1), before(2), before(3)) == ("]", "=", "path")
}

/// The token's text; empty behind the end.
pub fn word(tokens: &[Token], at: usize) -> &str {
    tokens.get(at).map_or("", |token| token.text.as_str())
}
