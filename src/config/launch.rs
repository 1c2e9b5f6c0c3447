//! From an agent's table to what its processes are started with. Looks for programs; starts and writes nothing.

use super::agent::{AgentConfig, Home};
use super::preset::Stance;
use super::{ConfigError, program};
use crate::domain::agent::AgentName;
use crate::domain::mcp::McpServer;
use serde_json::Value;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Launchers that fetch a program anew and stay between us and it.
const LAUNCHERS: [&str; 3] = ["npx", "npm", "bunx"];

/// What the processes of an ACP agent are started with, and what its conversations begin with. They have to start outside of
/// every worktree: some agents take the folder that they start in for one that the user trusts.
#[derive(Clone, Debug, PartialEq)]
pub struct AcpLaunch {
    /// The program itself, never a launcher.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Added to the allow-listed environment; the last of a name counts. Values are secrets.
    pub env: Vec<(String, String)>,
    /// A home folder of its own: `HOME` and the XDG folders belong into it. None: it sees the user's.
    pub home: Option<PathBuf>,
    /// What that home begins with: absolute paths and contents, to be written where there is none yet.
    pub files: Vec<(PathBuf, String)>,
    /// `_meta` of `session/new`, `session/load` and `session/resume`.
    pub session_meta: Option<Value>,
    /// What every conversation gets.
    pub mcp_servers: Vec<McpServer>,
}

/// Why an agent cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// There is no program.
    #[error("{found}: {advice}")]
    NoProgram {
        /// What was found instead.
        found: String,
        /// What to do.
        advice: String,
    },
    /// An MCP server's program is not there.
    #[error("the program of the MCP server {0} was not found: correct its `command`")]
    NoMcpProgram(String),
    /// The variables cannot be read.
    #[error(transparent)]
    Variables(#[from] ConfigError),
}

impl AgentConfig {
    /// What to start it with as an agent that speaks ACP; `home` is where a home of its own would be.
    ///
    /// # Errors
    /// When its program, the program of an MCP server, or its file of variables is not there; see [`LaunchError`].
    pub fn acp_launch(
        &self,
        name: &AgentName,
        data_dir: &Path,
        home: &Path,
    ) -> Result<AcpLaunch, LaunchError> {
        let known = self.preset.map(super::Preset::known);
        let program = self.acp_program(data_dir).ok_or_else(|| self.no_program(name))?;
        let home = (self.home == Home::Isolated).then(|| home.to_owned());
        let stance = known.map(|known| known.stance(self.repository_config));
        let mut env = Vec::new();
        let mut set = |vars: &[(&str, &str)]| {
            env.extend(vars.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        };
        set(known.map_or(&[], |known| known.env));
        set(stance.map_or(&[], |stance| stance.env));
        if let (Some(known), Some(home)) = (known, &home) {
            let folder = |below: &str| if below.is_empty() { home.clone() } else { home.join(below) };
            let folders = known.home_env.iter();
            env.extend(
                folders
                    .map(|(name, below)| ((*name).to_owned(), folder(below).to_string_lossy().into_owned())),
            );
        }
        env.extend(self.variables()?);
        let files = known.zip(home.as_ref()).into_iter().flat_map(|(known, home)| {
            known.home_files.iter().map(|(path, text)| (home.join(path), (*text).to_owned()))
        });
        let mcp_servers = self.mcp_servers.iter().map(|server| {
            let missing = || LaunchError::NoMcpProgram(server.name.clone());
            server.resolve(|command| program::absolute(command)).ok_or_else(missing)
        });
        let own = self.args.iter().map(OsString::from);
        let fixed = known.map_or(&[][..], |known| known.args).iter().map(OsString::from);
        Ok(AcpLaunch {
            program: program.path,
            args: program.args.into_iter().chain(fixed).chain(own).collect(),
            env,
            files: files.collect(),
            home,
            session_meta: stance.and_then(Stance::meta),
            mcp_servers: mcp_servers.collect::<Result<_, _>>()?,
        })
    }

    /// The program that speaks ACP: the configured command, else where its preset finds one.
    pub(super) fn acp_program(&self, data_dir: &Path) -> Option<program::Program> {
        match (&self.command, self.preset) {
            (Some(command), _) => program::resolve(command),
            (None, Some(preset)) => program::find(preset, data_dir),
            (None, None) => None,
        }
    }

    fn no_program(&self, name: &AgentName) -> LaunchError {
        let package = self.preset.and_then(super::Preset::package);
        let set = format!("set agents.{name}.command to its program");
        let advice = match package {
            Some(package) => format!("`agentpool agents install {}`, or {set}", package.as_str()),
            None => set,
        };
        let found = match (&self.command, self.preset) {
            (Some(command), _) => {
                format!("{} is not there, or only a launcher without its program", command.display())
            }
            (None, Some(preset)) => {
                format!("no {} in the data folder or on PATH", preset.known().names.join(" or "))
            }
            (None, None) => "no program is named".to_owned(),
        };
        LaunchError::NoProgram { found, advice }
    }

    /// What of its table cannot work as an ACP agent: a key, and what would be right.
    pub(super) fn acp_problem(&self) -> Option<(&'static str, String)> {
        let launcher = self.command.as_ref().and_then(|command| command.file_name()?.to_str());
        if let Some(launcher) = launcher.filter(|name| LAUNCHERS.contains(name)) {
            let problem = format!(
                "{launcher} would fetch the agent at each start and outlive it: install it and name its program"
            );
            return Some(("command", problem));
        }
        let Some(known) = self.preset.map(super::Preset::known) else {
            let problem = "name its program with `command`, or what it is with `preset`";
            return self.command.is_none().then(|| ("command", problem.to_owned()));
        };
        if known.wary_without_mcp && !self.repository_config && !self.mcp_servers.is_empty() {
            let problem = "it starts no MCP servers in a folder that it does not trust, and would not start these: \
                           set `repository_config = true` to trust what repositories configure";
            return Some(("mcp_servers", problem.to_owned()));
        }
        if self.repository_config && known.trusting.is_none() {
            let problem = "it reads what a repository configures only where its process starts, which is never in a \
                           worktree: leave it out";
            return Some(("repository_config", problem.to_owned()));
        }
        None
    }
}

impl Stance {
    fn meta(&self) -> Option<Value> {
        self.session_meta.map(|text| serde_json::from_str(text).expect("a test reads every one"))
    }
}

#[cfg(test)]
mod tests;
