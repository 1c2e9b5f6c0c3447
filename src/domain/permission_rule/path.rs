//! Paths within a worktree, compared as they are written: a symbolic link leads where it leads.

/// The parts of a path within the worktree; `None` when it does not lie there, or could lie elsewhere. `.git` is what git and
/// people trust, so it counts as elsewhere.
pub(super) fn within<'a>(told: &'a str, worktree: Option<&str>) -> Option<Vec<&'a str>> {
    let parts = below(told, worktree)?;
    let plain = |part: &&str| {
        *part != ".."
            && !part.eq_ignore_ascii_case(".git")
            && !part.starts_with('~')
            && !part.chars().any(|c| c.is_control() || c == char::REPLACEMENT_CHARACTER)
    };
    (!parts.is_empty() && parts.iter().all(plain)).then_some(parts)
}

/// Is that folder the worktree, or one within?
pub(super) fn is_within(folder: &str, worktree: Option<&str>) -> bool {
    below(folder, worktree).is_some_and(|parts| parts.is_empty() || within(folder, worktree).is_some())
}

fn below<'a>(told: &'a str, worktree: Option<&str>) -> Option<Vec<&'a str>> {
    let relative = if told.starts_with('/') {
        let root = worktree?.trim_end_matches('/');
        let rest = told.strip_prefix(root).filter(|_| root.starts_with('/'))?;
        // `/w` is not above `/worktree`.
        if !rest.is_empty() && !rest.starts_with('/') {
            return None;
        }
        rest
    } else {
        told
    };
    Some(relative.split('/').filter(|part| !part.is_empty() && *part != ".").collect())
}

/// Is that a pattern of paths within a worktree?
pub(super) fn is_pattern(pattern: &str, exact: bool) -> bool {
    // What other programs read as choices would be taken literally here, and match nothing.
    let choices = !exact && pattern.contains(['[', ']', '{', '}']);
    let tidy = pattern.split('/').all(|part| !part.is_empty() && part != ".");
    tidy && !choices && !pattern.contains('\\') && within(pattern, None).is_some()
}

/// Does the pattern hold for this path? An exact one holds for itself alone.
pub(super) fn fits(pattern: &str, parts: &[&str], exact: bool) -> bool {
    let wanted: Vec<&str> = pattern.split('/').collect();
    if exact {
        return wanted == parts;
    }
    wild(
        &wanted,
        parts,
        |part| *part == "**",
        |part, told| {
            let (part, told): (Vec<char>, Vec<char>) = (part.chars().collect(), told.chars().collect());
            wild(&part, &told, |c| *c == '*', |c, told| *c == '?' || c == told)
        },
    )
}

/// As [`fits`], for a path that may be written in any way: `..` is walked, and of what does not lie in the worktree by its
/// name (which may have another one) any end that fits is enough.
pub(super) fn may_fit(pattern: &str, told: &str, worktree: Option<&str>, exact: bool) -> bool {
    let address = has_scheme(told);
    if address && told.contains('%') {
        // Its characters may be spelled as numbers.
        return true;
    }
    let inside = below(told, worktree).filter(|_| !address && !told.starts_with('~'));
    let mut known = inside.is_some();
    let mut parts = Vec::new();
    for part in inside.unwrap_or_else(|| told.split('/').filter(|part| !part.is_empty()).collect()) {
        match part {
            "." => {}
            // Beyond the root, the way may lead back in.
            ".." => known &= parts.pop().is_some(),
            part => parts.push(part),
        }
    }
    if known {
        return fits(pattern, &parts, exact);
    }
    (0..parts.len()).any(|from| fits(pattern, &parts[from..], exact))
}

/// `file:` and the like.
fn has_scheme(told: &str) -> bool {
    let Some((scheme, _)) = told.split_once(':') else { return false };
    scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+.-".contains(c))
}

/// A pattern in which some items stand for any number of others. In time of the product of both lengths: only the last such
/// item is ever tried again.
fn wild<P, T>(pattern: &[P], text: &[T], any: impl Fn(&P) -> bool, one: impl Fn(&P, &T) -> bool) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut again: Option<(usize, usize)> = None;
    while t < text.len() {
        if pattern.get(p).is_some_and(&any) {
            again = Some((p, t));
            p += 1;
        } else if pattern.get(p).is_some_and(|item| one(item, &text[t])) {
            (p, t) = (p + 1, t + 1);
        } else if let Some((star, taken)) = again {
            again = Some((star, taken + 1));
            (p, t) = (star + 1, taken + 1);
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(any)
}
