//! The table of agents: what its keys mean together, and who is in it when nobody wrote one. Starts no agent.

use super::agent::AgentConfig;
use super::preset::Preset;
use super::program::{self, find_opencode};
use super::{ConfigError, mcp};
use crate::domain::agent::{AgentName, BackendKind};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Most initialised processes that wait for a conversation; each takes up to half a gigabyte.
const SPARE_MAX: u8 = 16;

/// What the sources know of a key.
pub(super) trait Origins {
    /// True when some source has it.
    fn is_given(&self, key: &str) -> bool;
    /// The error of a value that cannot be used.
    fn refuse(&self, key: String, problem: String) -> ConfigError;
}

/// Completes every table by its name, and checks what types cannot.
pub(super) fn named(
    agents: BTreeMap<String, AgentConfig>,
    origins: &dyn Origins,
    relative_to: &Path,
) -> Result<BTreeMap<AgentName, AgentConfig>, ConfigError> {
    let mut named = BTreeMap::new();
    for (name, mut agent) in agents {
        let name = AgentName::new(name.clone())
            .map_err(|bad| origins.refuse(format!("agents.{name}"), bad.to_string()))?;
        let backend_is_given = origins.is_given(&format!("agents.{name}.backend"));
        complete(&mut agent, &name, backend_is_given);
        if let Some((key, problem)) = problem(&agent) {
            return Err(origins.refuse(format!("agents.{name}.{key}"), problem));
        }
        for path in [&mut agent.env_file, &mut agent.scenarios, &mut agent.state] {
            *path = path.take().map(|path| relative_to.join(path));
        }
        let servers = agent.mcp_servers.iter_mut().map(|server| &mut server.command);
        for command in servers.chain([&mut agent.command]) {
            *command = command.take().map(|command| relative(command, relative_to));
        }
        named.insert(name, agent);
    }
    Ok(named)
}

/// A name is left to `PATH`.
fn relative(command: PathBuf, to: &Path) -> PathBuf {
    if command.components().count() > 1 { to.join(command) } else { command }
}

/// An agent that bears a preset's name is one, and speaks as it does.
fn complete(agent: &mut AgentConfig, name: &AgentName, backend_is_given: bool) {
    let by_name = Preset::parse(name.as_str());
    if !backend_is_given {
        agent.backend = match agent.preset.or(by_name) {
            None | Some(Preset::Opencode) => BackendKind::OpencodeServer,
            Some(Preset::Claude | Preset::Codex | Preset::Gemini | Preset::Goose) => BackendKind::AcpWarm,
        };
    }
    if agent.backend == BackendKind::AcpWarm {
        agent.preset = agent.preset.or(by_name);
    }
}

fn problem(agent: &AgentConfig) -> Option<(&'static str, String)> {
    let seconds = [
        ("stall_secs", agent.stall_secs),
        ("turn_secs", agent.turn_secs),
        ("init_secs", agent.init_secs),
        ("permission.deadline_secs", agent.permission.deadline_secs.into()),
    ];
    if let Some((key, _)) = seconds.into_iter().find(|(_, secs)| *secs == 0) {
        return Some((key, "use 1 second or more".to_owned()));
    }
    let amounts = [
        ("memory_soft_mb", Some(agent.memory_soft_mb), "use 1 MiB or more"),
        ("limits.memory_mb", agent.limits.memory_mb, "use 1 MiB or more"),
        ("limits.pids_max", agent.limits.pids_max.map(u64::from), "use 1 or more"),
        ("limits.cpu_percent", agent.limits.cpu_percent.map(u64::from), "use 1 or more; 100 is one core"),
    ];
    if let Some((key, _, wanted)) = amounts.into_iter().find(|(_, amount, _)| *amount == Some(0)) {
        return Some((key, wanted.to_owned()));
    }
    if agent.spare > SPARE_MAX {
        return Some(("spare", format!("use 0 to {SPARE_MAX}")));
    }
    if let Some(problem) = mcp::first_problem(&agent.mcp_servers) {
        return Some(("mcp_servers", problem));
    }
    match (agent.backend, agent.preset) {
        (BackendKind::AcpWarm, _) => agent.acp_problem(),
        (BackendKind::OpencodeServer, None | Some(Preset::Opencode)) => None,
        (backend @ (BackendKind::OpencodeServer | BackendKind::Scripted), Some(preset)) => {
            let problem = format!(
                "{} speaks acp_warm, and this agent's backend is {}",
                preset.as_str(),
                backend.as_str()
            );
            Some(("preset", problem))
        }
        (BackendKind::Scripted, None) => None,
    }
}

/// A newcomer has no table of agents: what is there is used.
pub(super) fn probed(data_dir: &Path) -> BTreeMap<AgentName, AgentConfig> {
    let found = |preset: Preset| match preset {
        Preset::Opencode => find_opencode(data_dir)
            .map(|program| AgentConfig { command: Some(program), ..AgentConfig::default() }),
        // Its program is looked for again at each start: an upgrade may have moved it.
        Preset::Claude | Preset::Codex | Preset::Gemini | Preset::Goose => program::find(preset, data_dir)
            .map(|_| AgentConfig {
                backend: BackendKind::AcpWarm,
                preset: Some(preset),
                ..AgentConfig::default()
            }),
    };
    let name = |preset: Preset| AgentName::new(preset.as_str()).expect("lower-case letters only");
    Preset::ALL.into_iter().filter_map(|preset| Some((name(preset), found(preset)?))).collect()
}
