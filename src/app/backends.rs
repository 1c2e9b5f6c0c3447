//! From an agent's configuration to its backend.

use crate::backend::AgentBackend;
use crate::backend::opencode::{Home, OpencodeBackend, OpencodeConfig, OpencodePermission, Patience};
use crate::backend::scripted::{Scenarios, ScriptedBackend, ScriptedConfig};
use crate::config::{AgentConfig, Home as HomeConfig};
use crate::domain::agent::AgentName;
use crate::domain::agent::BackendKind;
use crate::process::{Limits, Shims};
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
        BackendKind::AcpWarm => {
            Err("the acp_warm backend comes with a later version: use opencode_server".to_owned())
        }
    }
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
        limits: Limits::default(),
    };
    Ok(Arc::new(OpencodeBackend::new(config, shims.clone())))
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
