//! The configuration: flags over environment over `agentpool.toml` over defaults. Reads files and variables, looks for
//! programs; starts nothing, opens no connection, and never shows a secret.

mod agent;
mod agents;
mod launch;
mod mcp;
mod pool;
mod preset;
mod program;
mod redact;
mod secrets;
mod sources;
#[cfg(test)]
mod tests;

pub use agent::{AgentConfig, Home, PermissionConfig, PermissionFallback, PermissionWord};
pub use launch::{AcpLaunch, LaunchError};
pub use mcp::{McpServerConfig, McpWord};
pub use pool::PoolConfig;
pub use preset::Preset;
pub use program::find_opencode;
pub use sources::{ConfigArgs, ConfigPlace};

use crate::domain::agent::AgentName;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where the API listens when nothing else is said.
pub const LISTEN_DEFAULT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 7717);

/// What holds on this node. [`Config::new`] gives the defaults, [`load`] what was configured.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Where everything lies that we keep: token, worktrees, installed packages, the embedded Postgres. Absolute.
    pub data_dir: PathBuf,
    /// Where the API listens; a loopback address, unless it offers TLS or a proxy stands before it.
    pub listen: SocketAddr,
    /// Certificate chain and key, in PEM, with which the API offers TLS itself; absolute.
    pub tls: Option<TlsFiles>,
    /// A proxy with TLS stands before the API, and its `X-Forwarded-For` says who asks.
    pub behind_proxy: bool,
    /// Names that the API may be called by besides those of this machine, without ports.
    pub hosts: Vec<String>,
    /// Connection string of a Postgres of the user's; none means the embedded one. Holds a password.
    pub database_url: Option<String>,
    /// The way to the same database around a pooler, for everything that the engine does.
    pub database_direct_url: Option<String>,
    /// Turns that run at once; 1 to [`HANDS_MAX`].
    pub hands: u16,
    /// Seconds between two looks at the queue when no NOTIFY arrives.
    pub poll_secs: f64,
    /// Seconds that running turns get when the service is told to stop.
    pub drain_timeout_secs: u64,
    /// Days that events of ended tasks are kept; 0: for ever.
    pub events_days: u16,
    /// The warm agents.
    pub pool: PoolConfig,
    /// What is logged, in the syntax of `RUST_LOG` (`info`, `agentpool=debug,warn`, …).
    pub log: String,
    /// How it is written.
    pub log_format: LogFormat,
    /// The agents by name; without an `[agents]` table the ones that were found on this machine.
    pub agents: BTreeMap<AgentName, AgentConfig>,
}

/// The files of the API's TLS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TlsFiles {
    /// The certificate, with those that lead to a known one behind it.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// Which conversations of an agent live in one process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Sharing {
    /// One each.
    #[default]
    Own,
    /// All of them.
    Shared,
}

/// What an agent and all below it may take.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Memory in MiB.
    pub memory_mb: Option<u64>,
    /// Processes and threads.
    pub pids_max: Option<u32>,
    /// Of one core: 200 is two of them.
    pub cpu_percent: Option<u32>,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// More turns at once than this are a slip of the finger: each may hold a gigabyte of agent.
pub const HANDS_MAX: u16 = 1024;

/// Why there is no configuration. Exit code 78.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file that was named, or found, cannot be read.
    #[error("cannot read the file {path:?}: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file is no TOML. The line itself is not shown: it may hold a secret.
    #[error("{path:?} is no TOML: {problem}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where, and what is wrong.
        problem: String,
    },
    /// A key that we do not know: most often a slip of the pen, which must not silently do nothing.
    #[error("unknown key `{key}` from {origin}: known here are {known}")]
    UnknownKey {
        /// The full key.
        key: String,
        /// File, variable or flag.
        origin: String,
        /// What could have been meant.
        known: String,
    },
    /// A value that cannot be used.
    #[error("`{key}` from {origin}: {problem}")]
    Invalid {
        /// The full key.
        key: String,
        /// File, variable or flag.
        origin: String,
        /// What is wrong and what would be right.
        problem: String,
    },
    /// Nobody says where our data belongs.
    #[error("there is no home folder to keep data in: set HOME, or name a folder with --data-dir")]
    NoHome,
}

/// A configuration together with where each key came from.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What holds.
    pub config: Config,
    /// The file that was read, when there was one.
    pub file: Option<PathBuf>,
    /// Full key → flag, variable or file. A key that is missing here has its default.
    pub origins: BTreeMap<String, String>,
}

/// Reads the configuration.
///
/// # Errors
/// When a source cannot be read, holds an unknown key, or a value that cannot be used; see [`ConfigError`].
pub fn load(args: &ConfigArgs) -> Result<Config, ConfigError> {
    load_with_origins(args).map(|loaded| loaded.config)
}

/// As [`load`], and says where each key came from.
///
/// # Errors
/// As [`load`].
pub fn load_with_origins(args: &ConfigArgs) -> Result<Loaded, ConfigError> {
    sources::load(args)
}

impl Config {
    /// The defaults, with no agents.
    pub fn new(data_dir: PathBuf) -> Self {
        Self {
            data_dir,
            listen: LISTEN_DEFAULT,
            tls: None,
            behind_proxy: false,
            hosts: Vec::new(),
            database_url: None,
            database_direct_url: None,
            hands: hands_default(),
            poll_secs: 5.0,
            drain_timeout_secs: 30,
            events_days: 90,
            pool: PoolConfig::default(),
            log: "info".to_owned(),
            log_format: LogFormat::default(),
            agents: BTreeMap::new(),
        }
    }

    /// Where the token lies that the command line uses; made by `agentpool serve`, mode 0600.
    pub fn token_file(&self) -> PathBuf {
        token_file(&self.data_dir)
    }

    /// Between two looks at the queue.
    pub fn poll(&self) -> Duration {
        Duration::from_secs_f64(self.poll_secs)
    }

    /// For running turns when the service is told to stop.
    pub fn drain_timeout(&self) -> Duration {
        Duration::from_secs(self.drain_timeout_secs)
    }

    /// Everything, for people and logs: passwords and the values of agents' variables are replaced.
    pub fn redacted(&self) -> Value {
        redact::config(self)
    }
}

/// The token's file in a data folder.
pub fn token_file(data_dir: &Path) -> PathBuf {
    data_dir.join("token")
}

/// The data folder of a newcomer: `/var/lib/agentpool` for root, else the user's own by the XDG rules.
///
/// # Errors
/// [`ConfigError::NoHome`] when neither `XDG_DATA_HOME` nor `HOME` is set.
pub fn data_dir_default() -> Result<PathBuf, ConfigError> {
    if nix::unistd::geteuid().is_root() {
        return Ok(PathBuf::from("/var/lib/agentpool"));
    }
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = absolute("XDG_DATA_HOME").or_else(|| absolute("HOME").map(|home| home.join(".local/share")));
    base.map(|base| base.join("agentpool")).ok_or(ConfigError::NoHome)
}

/// Eight, or twice the cores, whichever is less: agents mostly wait for their model, but each costs memory.
fn hands_default() -> u16 {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    u16::try_from(cores.saturating_mul(2)).map_or(8, |twice| twice.clamp(1, 8))
}
