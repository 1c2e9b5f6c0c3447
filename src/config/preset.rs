//! The agents that we know, as data: where their program is, how it is started, and how it is kept from obeying what a
//! repository ships. A new agent needs no row here: `command`, `args` and `env` of its table do the same.

use crate::install::Package;
use serde::{Deserialize, Serialize};

/// An agent that we know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Preset {
    /// opencode.
    Opencode,
    /// Claude Code by its ACP adapter.
    Claude,
    /// Codex by its ACP adapter.
    Codex,
    /// The Gemini command line.
    Gemini,
    /// goose. Nothing of it was tried: there is no package of it to pin.
    Goose,
}

/// What is known of one. Variables are (name, value), files and folders are paths below an isolated home.
pub(super) struct Known {
    /// The package that we install, where there is one.
    pub(super) package: Option<Package>,
    /// What the program may be called on PATH, best first.
    pub(super) names: &'static [&'static str],
    /// What makes it speak ACP.
    pub(super) args: &'static [&'static str],
    /// No browser, no update, no chatter; and whoever decides is asked.
    pub(super) env: &'static [(&'static str, &'static str)],
    /// Variables that name a folder of an isolated home; an empty one is the home itself.
    pub(super) home_env: &'static [(&'static str, &'static str)],
    /// Files that an isolated home begins with.
    pub(super) home_files: &'static [(&'static str, &'static str)],
    /// What keeps it from obeying the repository's configuration.
    pub(super) wary: Stance,
    /// What makes it obey it; none where nothing does.
    pub(super) trusting: Option<Stance>,
    /// Whether the wary one starts no MCP servers at all, ours included.
    pub(super) wary_without_mcp: bool,
}

/// How the configuration that a repository ships is taken.
pub(super) struct Stance {
    pub(super) env: &'static [(&'static str, &'static str)],
    /// `_meta` of `session/new`, `load` and `resume`, as JSON.
    pub(super) session_meta: Option<&'static str>,
}

const NOTHING: Stance = Stance { env: &[], session_meta: None };

static OPENCODE: Known = Known {
    package: Some(Package::Opencode),
    names: &["opencode"],
    args: &["acp"],
    env: &[
        ("OPENCODE_DISABLE_AUTOUPDATE", "1"),
        // A worktree's checkpoints do the work of its snapshots; and its heap, as for the server.
        ("OPENCODE_CONFIG_CONTENT", r#"{"snapshot":false}"#),
        ("BUN_JSC_forceRAMSize", "1073741824"),
        // It beats opencode's configuration files: without it nothing is asked, and our policy decides nothing.
        (
            "OPENCODE_PERMISSION",
            r#"{"edit":"ask","bash":"ask","webfetch":"ask","external_directory":"ask","doom_loop":"ask"}"#,
        ),
    ],
    home_env: &[],
    home_files: &[],
    // Its AGENTS.md goes with the repository's configuration (seen on 1.18.33).
    wary: Stance { env: &[("OPENCODE_DISABLE_PROJECT_CONFIG", "1")], ..NOTHING },
    trusting: Some(NOTHING),
    wary_without_mcp: false,
};

static CLAUDE: Known = Known {
    package: Some(Package::Claude),
    names: &["claude-agent-acp", "claude-code-acp"],
    args: &[],
    env: &[
        ("NO_BROWSER", "1"),
        ("DISABLE_AUTOUPDATER", "1"),
        ("DISABLE_TELEMETRY", "1"),
        ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1"),
        // One more request a turn, whose answer nobody reads.
        ("CLAUDE_CODE_ENABLE_PROMPT_SUGGESTION", "false"),
    ],
    home_env: &[("CLAUDE_CONFIG_DIR", ".claude")],
    home_files: &[],
    // Hooks, MCP servers, `env` and `apiKeyHelper` of the repository are off, and its CLAUDE.md with them: the adapter
    // knows no finer switch (seen on 0.100.0; CVE-2025-59536, CVE-2026-21852).
    wary: Stance {
        session_meta: Some(r#"{"claudeCode":{"options":{"settingSources":["user"]}}}"#),
        ..NOTHING
    },
    trusting: Some(NOTHING),
    wary_without_mcp: false,
};

static CODEX: Known = Known {
    package: Some(Package::Codex),
    names: &["codex-acp"],
    args: &[],
    env: &[("NO_BROWSER", "1")],
    home_env: &[("CODEX_HOME", ".codex")],
    home_files: &[(
        ".codex/config.toml",
        "check_for_update_on_startup = false\n\n[analytics]\nenabled = false\n",
    )],
    // It reads the `.codex` of the folder that its process starts in, once, and only where that is trusted: never that of
    // a worktree, as processes start elsewhere. It has to stay so: to choose the mode auto or full-access writes trust in
    // the worktree into the agent's own configuration (seen on 0.16.0). AGENTS.md is read.
    wary: NOTHING,
    trusting: None,
    wary_without_mcp: false,
};

static GEMINI: Known = Known {
    package: Some(Package::Gemini),
    names: &["gemini"],
    args: &["--acp"],
    env: &[("NO_BROWSER", "1")],
    home_env: &[("GEMINI_CLI_HOME", "")],
    home_files: &[(
        ".gemini/settings.json",
        r#"{"security":{"auth":{"selectedType":"gemini-api-key"}},"general":{"enableAutoUpdate":false},"privacy":{"usageStatisticsEnabled":false},"telemetry":{"enabled":false}}"#,
    )],
    // It wins over folderTrust in the user's settings. GEMINI.md and the modes autoEdit and yolo go with it (0.61.0).
    wary: Stance { env: &[("GEMINI_CLI_TRUST_WORKSPACE", "false")], ..NOTHING },
    trusting: Some(Stance { env: &[("GEMINI_CLI_TRUST_WORKSPACE", "true")], ..NOTHING }),
    wary_without_mcp: true,
};

static GOOSE: Known = Known {
    package: None,
    names: &["goose"],
    args: &["acp"],
    env: &[("GOOSE_MODE", "approve")],
    home_env: &[],
    home_files: &[],
    wary: NOTHING,
    trusting: Some(NOTHING),
    wary_without_mcp: false,
};

impl Preset {
    /// Every preset.
    pub const ALL: [Self; 5] = [Self::Opencode, Self::Claude, Self::Codex, Self::Gemini, Self::Goose];

    /// The word in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Opencode => "opencode",
            Self::Claude => "claude",
            Self::Codex => "codex",
            Self::Gemini => "gemini",
            Self::Goose => "goose",
        }
    }

    /// The preset of that word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|preset| preset.as_str() == word)
    }

    /// The package that `agentpool agents install` installs for it.
    pub fn package(self) -> Option<Package> {
        self.known().package
    }

    pub(super) fn known(self) -> &'static Known {
        match self {
            Self::Opencode => &OPENCODE,
            Self::Claude => &CLAUDE,
            Self::Codex => &CODEX,
            Self::Gemini => &GEMINI,
            Self::Goose => &GOOSE,
        }
    }
}

impl Known {
    pub(super) fn stance(&self, obeys_repository: bool) -> &Stance {
        self.trusting.as_ref().filter(|_| obeys_repository).unwrap_or(&self.wary)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn every_preset_is_whole() {
        for preset in Preset::ALL {
            assert_eq!(Preset::parse(preset.as_str()), Some(preset));
            assert_eq!(serde_json::to_value(preset).unwrap(), preset.as_str());
            let known = preset.known();
            assert!(!known.names.is_empty());
            for stance in [known.stance(false), known.stance(true)] {
                let meta = stance.session_meta.map(serde_json::from_str::<Value>);
                assert!(meta.is_none_or(|meta| meta.is_ok_and(|meta| meta.is_object())), "{preset:?}");
            }
            if let Some(package) = known.package {
                assert_eq!(package.as_str(), preset.as_str(), "they are installed by the same word");
            }
        }
        let settings = serde_json::from_str::<Value>(GEMINI.home_files[0].1).unwrap();
        assert_eq!(settings["general"]["enableAutoUpdate"], false);
    }
}
