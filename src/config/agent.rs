//! One `[agents.<name>]` table: how an agent is run and what it may do. Knows nothing of how a backend does it.

use super::mcp::McpServerConfig;
use super::program::{find_opencode, real_program};
use super::{ConfigError, Limits, Preset, Sharing};
use crate::domain::agent::{
    AgentName, AgentProfile, BackendKind, PermissionDefault, PermissionPolicy, PermissionRule,
};
use crate::domain::redaction::Redactor;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// How one agent is run.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct AgentConfig {
    /// How it is reached. Without a word, as its preset is: opencode by its server, the others by ACP.
    #[serde(deserialize_with = "backend_of_word", serialize_with = "word_of_backend")]
    pub backend: BackendKind,
    /// Which of the agents that we know it is; without a word, the one whose name it bears.
    pub preset: Option<Preset>,
    /// Its program: a path, or a name on `PATH`. None: it is looked for, see [`AgentConfig::program`].
    pub command: Option<PathBuf>,
    /// `acp_warm` only: arguments, after those of the preset.
    pub args: Vec<String>,
    /// Variables that it gets besides the allow-listed ones. Values are secrets.
    pub env: BTreeMap<String, String>,
    /// A file of `NAME=value` lines with more of them; `env` wins.
    pub env_file: Option<PathBuf>,
    /// Whose home folder it sees.
    pub home: Home,
    /// Used when the task names no model.
    pub model: Option<String>,
    /// Used when the task names no mode.
    pub mode: Option<String>,
    /// Used when the task names no level of thinking.
    pub thinking: Option<String>,
    /// What happens when it asks for permission.
    pub permission: PermissionConfig,
    /// Seconds without any event after which a turn counts as stalled.
    pub stall_secs: u64,
    /// Seconds that one turn may last altogether.
    pub turn_secs: u64,
    /// `acp_warm` only: seconds that it may take to say that it is ready.
    pub init_secs: u64,
    /// `acp_warm` only: which conversations live in one process.
    pub sharing: Sharing,
    /// `acp_warm` only: initialised processes that are kept ready for new conversations; at most 16.
    pub spare: u8,
    /// `acp_warm` only: what every conversation gets.
    pub mcp_servers: Vec<McpServerConfig>,
    /// `acp_warm` only: whether MCP servers, hooks and plug-ins that a repository brings along may run.
    pub repository_config: bool,
    /// `acp_warm` only: whether it may read, write and run through us, in its worktree alone, in place of its own tools.
    pub client_tools: bool,
    /// What the agent and all below it may take, where the system lets us say so.
    pub limits: Limits,
    /// `opencode_server` only: resident memory in MiB of the server and all below it, above which it is ended between
    /// turns and started anew.
    pub memory_soft_mb: u64,
    /// `scripted` only: a folder of scenarios; none means the built-in ones.
    pub scenarios: Option<PathBuf>,
    /// `scripted` only: a folder in which conversations outlive a restart; none means one in the data folder.
    pub state: Option<PathBuf>,
}

/// Whose home folder an agent sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Home {
    /// Ours, so that the user's logins and settings hold.
    #[default]
    Inherit,
    /// One of its own in the data folder.
    Isolated,
}

/// The `permission` table of an agent.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct PermissionConfig {
    /// What happens when it asks.
    pub policy: PermissionWord,
    /// `ask` only (of the agent or of a session): seconds that a person has.
    pub deadline_secs: u32,
    /// `ask` only: what an unanswered request becomes.
    pub default: PermissionFallback,
}

/// What happens when an agent asks for permission.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PermissionWord {
    /// Everything asked is allowed: a queue runs unattended, and the work stays in a worktree until somebody applies it.
    #[default]
    Allow,
    /// What only reads is allowed, everything else is refused.
    AllowReads,
    /// Everything asked is refused.
    Deny,
    /// A person is asked.
    Ask,
}

/// What an unanswered request becomes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PermissionFallback {
    /// Allowed.
    Allow,
    /// Refused.
    #[default]
    Deny,
}

impl Default for PermissionConfig {
    fn default() -> Self {
        Self {
            policy: PermissionWord::default(),
            deadline_secs: 3600,
            default: PermissionFallback::default(),
        }
    }
}

impl Default for AgentConfig {
    fn default() -> Self {
        Self {
            backend: BackendKind::OpencodeServer,
            preset: None,
            command: None,
            args: Vec::new(),
            env: BTreeMap::new(),
            env_file: None,
            home: Home::default(),
            model: None,
            mode: None,
            thinking: None,
            permission: PermissionConfig::default(),
            stall_secs: 900,
            turn_secs: 21_600,
            init_secs: 60,
            sharing: Sharing::default(),
            spare: 0,
            mcp_servers: Vec::new(),
            repository_config: false,
            client_tools: false,
            limits: Limits::default(),
            // A server with one directory takes some 700 MB, each further one 45 MB.
            memory_soft_mb: 4096,
            scenarios: None,
            state: None,
        }
    }
}

impl AgentConfig {
    /// What the engine needs to know of the agent; the redactor is that of its [`AgentConfig::secrets`] and of what it gets besides.
    pub fn profile(&self, name: &AgentName, redactor: Redactor) -> AgentProfile {
        AgentProfile {
            name: name.clone(),
            backend: self.backend,
            default_model: self.model.clone(),
            default_mode: self.mode.clone(),
            default_thinking: self.thinking.clone(),
            permission: self.permission.policy(),
            stall_secs: self.stall_secs,
            turn_secs: self.turn_secs,
            config_hash: self.config_hash(),
            redactor,
        }
    }

    /// The program to run, when there is one: the configured command, else the one that was installed or is on `PATH`. A
    /// launcher script is resolved to the program behind it, a script for Node.js to that. A scripted agent has none.
    pub fn program(&self, data_dir: &Path) -> Option<PathBuf> {
        match (self.backend, &self.command) {
            (BackendKind::Scripted, _) => None,
            (BackendKind::OpencodeServer, Some(command)) => real_program(command),
            (BackendKind::OpencodeServer, None) => find_opencode(data_dir),
            (BackendKind::AcpWarm, _) => self.acp_program(data_dir).map(|program| program.path),
        }
    }

    /// The variables of `env_file` and `env` together.
    ///
    /// # Errors
    /// When the file cannot be read or holds something else than `NAME=value` lines.
    pub fn variables(&self) -> Result<BTreeMap<String, String>, ConfigError> {
        let mut variables = match &self.env_file {
            None => BTreeMap::new(),
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .map_err(|source| ConfigError::Unreadable { path: path.clone(), source })?;
                parse_env_file(&text).map_err(|line| ConfigError::Invalid {
                    key: "env_file".to_owned(),
                    origin: format!("line {line} of {path:?}"),
                    problem: "expected NAME=value".to_owned(),
                })?
            }
        };
        variables.extend(self.env.clone());
        Ok(variables)
    }

    /// SHA-256 in hex over what a conversation depends on: kind, model, mode, thinking, and whose home keeps it. Not the
    /// program (an upgrade goes on with old conversations), not the variables (keys are rotated), never a port.
    fn config_hash(&self) -> String {
        let mut depends_on =
            serde_json::json!([self.backend.as_str(), self.model, self.home, self.scenarios]);
        // Only where they mean something: conversations from before these keys go on.
        if let (BackendKind::AcpWarm, Some(list)) = (self.backend, depends_on.as_array_mut()) {
            list.extend([
                serde_json::json!(self.preset),
                serde_json::json!(self.mode),
                serde_json::json!(self.thinking),
            ]);
        }
        Sha256::digest(depends_on.to_string()).iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl PermissionConfig {
    fn policy(&self) -> PermissionPolicy {
        PermissionPolicy {
            rule: match self.policy {
                PermissionWord::Allow => PermissionRule::Allow,
                PermissionWord::AllowReads => PermissionRule::AllowReads,
                PermissionWord::Deny => PermissionRule::Deny,
                PermissionWord::Ask => PermissionRule::Ask,
            },
            deadline_secs: self.deadline_secs,
            fallback: match self.default {
                PermissionFallback::Allow => PermissionDefault::Allow,
                PermissionFallback::Deny => PermissionDefault::Deny,
            },
        }
    }
}

/// `NAME=value` lines; empty ones, `#` comments, `export ` and one pair of quotes around a value are understood.
/// Fails with the number of the first line that is none.
fn parse_env_file(text: &str) -> Result<BTreeMap<String, String>, usize> {
    let mut variables = BTreeMap::new();
    for (n, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let line = line.strip_prefix("export ").unwrap_or(line);
        let (name, value) = line.split_once('=').ok_or(n + 1)?;
        let name = name.trim();
        if name.is_empty() || name.contains(char::is_whitespace) {
            return Err(n + 1);
        }
        variables.insert(name.to_owned(), unquoted(value.trim()).to_owned());
    }
    Ok(variables)
}

fn unquoted(value: &str) -> &str {
    ['"', '\''].into_iter().find_map(|quote| value.strip_prefix(quote)?.strip_suffix(quote)).unwrap_or(value)
}

fn backend_of_word<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BackendKind, D::Error> {
    let word = String::deserialize(deserializer)?;
    BackendKind::parse(&word).ok_or_else(|| {
        de::Error::custom(format!(
            "there is no backend {word:?}: use opencode_server or acp_warm (or scripted, for tests)"
        ))
    })
}

// By reference because serde's `serialize_with` calls it so.
fn word_of_backend<S: Serializer>(kind: &BackendKind, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(kind.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conversation_outlives_new_keys_and_programs_but_not_another_model() {
        let name = AgentName::new("a").unwrap();
        let hash = |config: &AgentConfig| config.profile(&name, Redactor::default()).config_hash;
        let plain = AgentConfig::default();
        let mut rotated = plain.clone();
        rotated.env.insert("KEY".into(), "new".into());
        rotated.command = Some("/opt/opencode".into());
        assert_eq!(hash(&plain), hash(&rotated));
        assert_eq!(hash(&plain).len(), 64);
        assert_ne!(hash(&plain), hash(&AgentConfig { model: Some("p/m".into()), ..plain.clone() }));
        let acp = AgentConfig { backend: BackendKind::AcpWarm, ..plain.clone() };
        let same = AgentConfig { spare: 3, args: vec!["x".into()], init_secs: 9, ..acp.clone() };
        assert_eq!(hash(&acp), hash(&same));
        for other in [
            AgentConfig { preset: Some(Preset::Claude), ..acp.clone() },
            AgentConfig { mode: Some("plan".into()), ..acp.clone() },
            AgentConfig { thinking: Some("high".into()), ..acp.clone() },
            AgentConfig { home: Home::Isolated, ..acp.clone() },
        ] {
            assert_ne!(hash(&acp), hash(&other));
        }
    }

    #[test]
    fn an_env_file_is_read_as_people_write_it() {
        let text = "# keys\n\nexport A=1\nB = \"two words\"\nC='x=y'\nD=\n";
        let read = parse_env_file(text).unwrap();
        let wanted = [("A", "1"), ("B", "two words"), ("C", "x=y"), ("D", "")];
        assert_eq!(read.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect::<Vec<_>>(), wanted);
        assert_eq!(parse_env_file("A=1\nnonsense\n"), Err(2));
    }

    #[test]
    fn a_policy_is_the_rule_and_how_long_people_have() {
        let read = |text: &str| serde_json::from_str::<PermissionConfig>(text).unwrap().policy();
        let policy = |rule| PermissionPolicy { rule, deadline_secs: 3600, fallback: PermissionDefault::Deny };
        for rule in PermissionRule::ALL {
            let text = format!(r#"{{"policy": "{}"}}"#, rule.as_str());
            assert_eq!(read(&text), policy(rule));
        }
        assert_eq!(PermissionConfig::default().policy(), policy(PermissionRule::Allow));
    }
}
