//! Which texts may name a repository to clone. Pure: says nothing about whether there is one.

/// Longest that is taken, in bytes.
const BYTES_MAX: usize = 2000;

/// Why a text is no clone URL that we take.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "this is no clone URL: write https://, http://, ssh://, git:// or file:///… or user@host:path, without spaces, at most {BYTES_MAX} bytes"
)]
pub struct BadCloneUrl;

/// Only what is a URL of a known scheme or `user@host:path`: no remote helper (`ext::`), no option.
///
/// # Errors
/// [`BadCloneUrl`], which says what is taken.
pub fn check_clone_url(url: &str) -> Result<(), BadCloneUrl> {
    let known = ["https://", "http://", "ssh://", "git://", "file:///"];
    let plain = url.len() <= BYTES_MAX
        && !url.starts_with('-')
        && !url.contains(|c: char| c.is_control() || c.is_whitespace());
    let host_ok = |rest: &str| !rest.starts_with('-') && !rest.is_empty();
    let of_a_scheme = || known.iter().any(|scheme| url.strip_prefix(scheme).is_some_and(host_ok));
    if plain && (of_a_scheme() || is_scp_like(url)) { Ok(()) } else { Err(BadCloneUrl) }
}

/// `user@host:path`, as git takes it for ssh.
fn is_scp_like(url: &str) -> bool {
    let word = |text: &str| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
    };
    url.split_once(':').is_some_and(|(host, path)| {
        host.split_once('@').is_some_and(|(user, host)| word(user) && word(host) && !host.starts_with('-'))
            && !path.is_empty()
            && !path.starts_with([':', '-'])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s15_only_plain_urls_reach_git() {
        for good in [
            "https://h/x.git",
            "https://[2001:db8::1]/x.git",
            "ssh://git@h/x",
            "git@h.example:a/b.git",
            "file:///srv/x",
        ] {
            assert!(check_clone_url(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "ext::sh -c x",
            "ext::sh",
            "-x",
            "--upload-pack=x",
            "ssh://-oProxyCommand=x/y",
            "a@-h:x",
            "git@h:-x",
            "/srv/x",
            "h:x",
            "https://h/\n",
            "https://h/a b",
            "file://h/x",
        ] {
            assert!(check_clone_url(bad).is_err(), "{bad}");
        }
        assert!(check_clone_url(&format!("https://h/{}", "x".repeat(2000))).is_err());
    }
}
