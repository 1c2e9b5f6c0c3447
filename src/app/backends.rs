//! From an agent's configuration to its backend.

use crate::backend::AgentBackend;
use crate::backend::acp::{self, AcpBackend, AcpConfig, Sharing};
use crate::backend::opencode::{Home, OpencodeBackend, OpencodeConfig, OpencodePermission, Patience};
use crate::backend::scripted::{Scenarios, ScriptedBackend, ScriptedConfig};
use crate::config::{self, AgentConfig, Config, Home as HomeConfig, Sharing as SharingConfig};
use crate::domain::agent::AgentName;
use crate::domain::agent::BackendKind;
use crate::domain::redaction::{Redactor, name_says_secret, of_address};
use crate::process::{Environment, Limits, Shims};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// What an agent server gets between TERM and KILL.
const GRACE: Duration = Duration::from_secs(2);
/// From spawn to ready.
const START_DEADLINE: Duration = Duration::from_secs(60);

/// The backend of one agent.
///
/// # Errors
/// What to do about it, in words.
pub(super) fn build(
    name: &AgentName,
    agent: &AgentConfig,
    data: &Path,
    shims: &Shims,
) -> Result<Arc<dyn AgentBackend>, String> {
    let home = data.join("agents").join(name.as_str());
    match agent.backend {
        BackendKind::OpencodeServer => opencode(agent, data, &home, shims),
        BackendKind::Scripted => scripted(agent, &home),
        BackendKind::AcpWarm => acp(name, agent, data, &home, shims),
    }
}

/// What takes the agent's secrets out of what it says: those that its configuration gives it, those that it inherits, and ours,
/// which a process of the same uid can read.
///
/// # Errors
/// What to do about it, in words.
pub(super) fn redactor(agent: &AgentConfig, config: &Config, token: &str) -> Result<Redactor, String> {
    let mut secrets = agent.secrets().map_err(|error| error.to_string())?;
    let inherited = Environment::allow_listed();
    for (name, value) in inherited.vars().filter_map(|(name, value)| Some((name.to_str()?, value.to_str()?)))
    {
        secrets.extend(of_address(value));
        secrets.extend(name_says_secret(name).then(|| value.to_owned()));
    }
    secrets.push(token.to_owned());
    for url in [&config.database_url, &config.database_direct_url].into_iter().flatten() {
        let parsed = url.parse::<tokio_postgres::Config>().ok();
        let password = parsed.and_then(|config| {
            let password = String::from_utf8(config.get_password()?.to_owned()).ok()?;
            // As in `of_address`: such a one protects nothing.
            (config.get_user() != Some(&password)).then_some(password)
        });
        secrets.extend(of_address(url).into_iter().chain(password));
    }
    Ok(Redactor::new(secrets))
}

fn opencode(
    agent: &AgentConfig,
    data: &Path,
    home: &Path,
    shims: &Shims,
) -> Result<Arc<dyn AgentBackend>, String> {
    let program = agent.program(data).ok_or_else(|| match &agent.command {
        Some(command) => format!("`command` names {}, which is no opencode that can be run: correct it", command.display()),
        None => "opencode was not found: run `agentpool agents install opencode`, or name the program with `command`".to_owned(),
    })?;
    std::fs::create_dir_all(home).map_err(|error| format!("cannot make {}: {error}", home.display()))?;
    let config = OpencodeConfig {
        program,
        env: agent.variables().map_err(|error| error.to_string())?.into_iter().collect(),
        home: match agent.home {
            HomeConfig::Inherit => Home::Inherited,
            HomeConfig::Isolated => Home::Isolated(home.to_owned()),
        },
        default_model: agent.model.clone(),
        cwd: home.to_owned(),
        grace: GRACE,
        start_deadline: START_DEADLINE,
        permission: OpencodePermission::Ask,
        memory_soft_bytes: agent.memory_soft_mb.saturating_mul(1 << 20),
        patience: Patience::default(),
        limits: limits(&agent.limits),
    };
    Ok(Arc::new(OpencodeBackend::new(config, shims.clone())))
}

fn acp(
    name: &AgentName,
    agent: &AgentConfig,
    data: &Path,
    home: &Path,
    shims: &Shims,
) -> Result<Arc<dyn AgentBackend>, String> {
    let launch = agent.acp_launch(name, data, home).map_err(|error| error.to_string())?;
    let make = |folder: &Path| {
        std::fs::create_dir_all(folder).map_err(|error| format!("cannot make {}: {error}", folder.display()))
    };
    make(home)?;
    for (path, text) in launch.files.iter().filter(|(path, _)| !path.exists()) {
        path.parent().map_or(Ok(()), make)?;
        std::fs::write(path, text).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    let config = AcpConfig {
        name: name.as_str().to_owned(),
        program: launch.program,
        args: launch.args,
        env: launch.env,
        home: launch.home.map_or(Home::Inherited, Home::Isolated),
        cwd: home.to_owned(),
        grace: GRACE,
        start_deadline: Duration::from_secs(agent.init_secs),
        sharing: match agent.sharing {
            SharingConfig::Own => Sharing::Own,
            SharingConfig::Shared => Sharing::Shared,
        },
        spare: usize::from(agent.spare),
        mcp_servers: launch.mcp_servers,
        session_meta: launch.session_meta,
        client_tools: agent.client_tools,
        patience: acp::Patience::default(),
        limits: limits(&agent.limits),
    };
    Ok(Arc::new(AcpBackend::new(config, shims.clone())))
}

fn limits(limits: &config::Limits) -> Limits {
    Limits {
        memory_bytes: limits.memory_mb.map(|mb| mb.saturating_mul(1 << 20)),
        pids_max: limits.pids_max,
        cpu_percent: limits.cpu_percent,
    }
}

fn scripted(agent: &AgentConfig, home: &Path) -> Result<Arc<dyn AgentBackend>, String> {
    let scenarios = match &agent.scenarios {
        Some(folder) => Scenarios::from_folder(folder).map_err(|error| error.to_string())?,
        None => Scenarios::built_in(),
    };
    let state = agent.state.as_deref().unwrap_or(home).to_owned();
    std::fs::create_dir_all(&state).map_err(|error| format!("cannot make {}: {error}", state.display()))?;
    Ok(Arc::new(ScriptedBackend::new(ScriptedConfig { scenarios, state: Some(state) })))
}
