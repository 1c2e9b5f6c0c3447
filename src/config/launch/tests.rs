//! What each preset's processes are started with.

use super::super::{McpServerConfig, Preset};
use super::*;
use crate::domain::agent::BackendKind;
use std::fs;
use std::os::unix::fs::PermissionsExt;

/// A folder with a program in it, and an agent of that preset whose command it is.
fn stage(preset: Option<Preset>) -> (tempfile::TempDir, AgentConfig) {
    let folder = tempfile::tempdir().unwrap();
    let program = fs::canonicalize(folder.path()).unwrap().join("agent");
    fs::write(&program, "#!/bin/sh\n").unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let backend = BackendKind::AcpWarm;
    (folder, AgentConfig { backend, preset, command: Some(program), ..AgentConfig::default() })
}

fn launch(agent: &AgentConfig) -> AcpLaunch {
    let name = AgentName::new("a").unwrap();
    agent.acp_launch(&name, Path::new("/data"), Path::new("/data/agents/a")).unwrap()
}

fn variable<'a>(launch: &'a AcpLaunch, name: &str) -> Option<&'a str> {
    launch.env.iter().rfind(|(other, _)| other == name).map(|(_, value)| value.as_str())
}

#[test]
fn a_command_of_the_users_gets_the_presets_arguments_and_then_its_own() {
    let (_folder, mut agent) = stage(Some(Preset::Gemini));
    agent.args = vec!["--debug".into()];
    let made = launch(&agent);
    assert_eq!(Some(&made.program), agent.command.as_ref());
    assert_eq!(made.args, ["--acp", "--debug"]);
    assert_eq!((made.home, made.files), (None, Vec::new()));
    let (_folder, unknown) = stage(None);
    let made = launch(&unknown);
    assert!(made.args.is_empty() && made.env.is_empty() && made.session_meta.is_none());
}

#[test]
fn a_home_of_its_own_is_named_by_the_agents_own_variables() {
    for (preset, variable_name, folder, file) in [
        (Preset::Claude, "CLAUDE_CONFIG_DIR", "/data/agents/a/.claude", None),
        (Preset::Codex, "CODEX_HOME", "/data/agents/a/.codex", Some("/data/agents/a/.codex/config.toml")),
        (Preset::Gemini, "GEMINI_CLI_HOME", "/data/agents/a", Some("/data/agents/a/.gemini/settings.json")),
    ] {
        let (_folder, mut agent) = stage(Some(preset));
        assert_eq!(variable(&launch(&agent), variable_name), None, "the user's own holds");
        agent.home = Home::Isolated;
        let made = launch(&agent);
        assert_eq!(variable(&made, variable_name), Some(folder));
        assert_eq!(made.home.as_deref(), Some(Path::new("/data/agents/a")));
        assert_eq!(made.files.first().map(|(path, _)| path.to_str().unwrap()), file);
    }
}

#[test]
fn what_a_repository_configures_is_off_unless_it_is_allowed() {
    let both = |preset| {
        let (_folder, mut agent) = stage(Some(preset));
        let wary = launch(&agent);
        agent.repository_config = true;
        (wary, launch(&agent))
    };
    let (wary, trusting) = both(Preset::Claude);
    let sources = &wary.session_meta.unwrap()["claudeCode"]["options"]["settingSources"];
    assert_eq!(sources, &serde_json::json!(["user"]));
    assert_eq!(trusting.session_meta, None);

    let (wary, trusting) = both(Preset::Gemini);
    assert_eq!(variable(&wary, "GEMINI_CLI_TRUST_WORKSPACE"), Some("false"));
    assert_eq!(variable(&trusting, "GEMINI_CLI_TRUST_WORKSPACE"), Some("true"));

    let (wary, trusting) = both(Preset::Opencode);
    assert_eq!(variable(&wary, "OPENCODE_DISABLE_PROJECT_CONFIG"), Some("1"));
    assert_eq!(variable(&trusting, "OPENCODE_DISABLE_PROJECT_CONFIG"), None);
}

#[test]
fn the_users_variables_win_over_the_presets() {
    let (_folder, mut agent) = stage(Some(Preset::Claude));
    assert_eq!(variable(&launch(&agent), "DISABLE_TELEMETRY"), Some("1"));
    agent.env.insert("DISABLE_TELEMETRY".into(), "0".into());
    assert_eq!(variable(&launch(&agent), "DISABLE_TELEMETRY"), Some("0"));
}

#[test]
fn what_is_not_there_is_named_with_what_to_do() {
    let name = AgentName::new("a").unwrap();
    let nowhere = Path::new("/nowhere");
    let (_folder, mut agent) = stage(Some(Preset::Codex));
    let fail = |agent: &AgentConfig| agent.acp_launch(&name, nowhere, nowhere).unwrap_err().to_string();
    agent.mcp_servers = vec![McpServerConfig {
        name: "m".into(),
        command: Some("/no/mcp".into()),
        ..McpServerConfig::default()
    }];
    assert!(fail(&agent).contains("MCP server m"));
    agent.mcp_servers.clear();
    agent.command = Some("/no/such/agent".into());
    let said = fail(&agent);
    assert!(said.contains("/no/such/agent") && said.contains("agents install codex"), "{said}");
    agent.preset = None;
    assert!(fail(&agent).ends_with("set agents.a.command to its program"));
}
