//! The environment of a child, built up from nothing. Never passes on a variable that is not named here or by the caller.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

/// Passed on when they are set: where things are, who we are, how to speak, and the way to the network.
const ALLOWED: [&str; 17] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "TZ",
    "TMPDIR",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
    "NODE_EXTRA_CA_CERTS",
];

/// Families of variables passed on.
const ALLOWED_PREFIXES: [&str; 3] = ["LC_", "XDG_", "SSL_CERT_"];

/// Variables and their values; what is not in it the child does not get.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    vars: BTreeMap<OsString, OsString>,
}

impl Environment {
    /// The harmless part of our own environment: no token, no database URL, no `GIT_*`, `LD_*` or `NODE_OPTIONS`.
    pub fn allow_listed() -> Self {
        Self { vars: std::env::vars_os().filter(|(name, _)| is_allowed(name)).collect() }
    }

    /// Nothing at all.
    pub fn empty() -> Self {
        Self::default()
    }

    /// With one variable more, or another value for it.
    #[must_use]
    pub fn set(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.vars.insert(name.into(), value.into());
        self
    }

    /// Without one.
    #[must_use]
    pub fn remove(mut self, name: impl AsRef<OsStr>) -> Self {
        self.vars.remove(name.as_ref());
        self
    }

    /// The value of one.
    pub fn get(&self, name: impl AsRef<OsStr>) -> Option<&OsStr> {
        self.vars.get(name.as_ref()).map(OsString::as_os_str)
    }

    /// All of them, for `Command::envs` after `env_clear`.
    pub fn vars(&self) -> impl Iterator<Item = (&OsStr, &OsStr)> {
        self.vars.iter().map(|(name, value)| (name.as_os_str(), value.as_os_str()))
    }
}

fn is_allowed(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| {
        ALLOWED.contains(&name) || ALLOWED_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_and_loader_tricks_are_not_allowed() {
        for name in
            ["DATABASE_URL", "AGENTPOOL_TOKEN", "GIT_DIR", "LD_PRELOAD", "NODE_OPTIONS", "SSH_AUTH_SOCK"]
        {
            assert!(!is_allowed(OsStr::new(name)), "{name}");
        }
        for name in ["PATH", "LC_ALL", "XDG_CONFIG_HOME", "SSL_CERT_FILE", "https_proxy"] {
            assert!(is_allowed(OsStr::new(name)), "{name}");
        }
    }

    #[test]
    fn what_was_removed_is_gone_and_the_last_value_counts() {
        let env = Environment::empty().set("A", "1").set("A", "2").set("B", "1").remove("B");
        assert_eq!(env.vars().collect::<Vec<_>>(), [(OsStr::new("A"), OsStr::new("2"))]);
    }
}
