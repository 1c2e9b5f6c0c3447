//! What a file may say and how its mistakes are told. Variables are tested with the program, in a process of their own.

use super::*;
use crate::domain::agent::BackendKind;
use std::fs;

fn load_text(text: &str) -> (tempfile::TempDir, Result<Loaded, ConfigError>) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("agentpool.toml");
    fs::write(&file, text).unwrap();
    let place = ConfigPlace { config: Some(file), data_dir: Some(folder.path().join("data")) };
    let loaded = load_with_origins(&ConfigArgs { place, ..ConfigArgs::default() });
    (folder, loaded)
}

fn refusal(text: &str) -> String {
    load_text(text).1.unwrap_err().to_string()
}

#[test]
fn a_file_fills_every_table_and_says_so() {
    let text = r#"
        hands = 3
        poll_secs = 1
        log_format = "json"
        [pool]
        live_max = 7
        [agents.opencode]
        command = "bin/opencode"
        model = "p/m"
        env = { KEY = "v" }
        permission = { policy = "ask", deadline_secs = 60 }
        [agents.play]
        backend = "scripted"
        scenarios = "plays"
    "#;
    let (folder, loaded) = load_text(text);
    let Loaded { config, origins, file } = loaded.unwrap();
    assert_eq!((config.hands, config.poll_secs, config.pool.live_max), (3, 1.0, 7));
    assert_eq!((config.pool.idle_ttl_secs, config.log_format), (1800, LogFormat::Json));
    let agents = config.agents.iter().map(|(name, agent)| (name.as_str(), agent)).collect::<BTreeMap<_, _>>();
    assert_eq!(agents["opencode"].command, Some(folder.path().join("bin/opencode")), "relative to the file");
    assert_eq!(agents["opencode"].permission.deadline_secs, 60);
    assert_eq!(agents["play"].backend, BackendKind::Scripted);
    assert_eq!(agents["play"].scenarios, Some(folder.path().join("plays")));
    assert_eq!(origins["pool.live_max"], file.unwrap().display().to_string());
    assert_eq!(origins["data_dir"], "--data-dir");
    assert!(!origins.contains_key("pool.idle_ttl_secs"), "it has its default");
}

#[test]
fn an_agent_that_bears_a_presets_name_needs_no_more_than_that() {
    let text = r#"
        [agents.claude]
        mode = "plan"
        thinking = "high"
        spare = 2
        sharing = "shared"
        limits = { memory_mb = 2048, pids_max = 512, cpu_percent = 150 }
        [[agents.claude.mcp_servers]]
        name = "files"
        command = "bin/files"
        args = ["--all"]
        [agents.codex]
        mode = "auto"
        [agents.opencode]
        [agents.quick]
        preset = "opencode"
        backend = "acp_warm"
        [agents.mine]
        preset = "gemini"
        [agents.other]
        backend = "acp_warm"
        command = "other-agent"
        args = ["--acp"]
        [agents.goose]
        backend = "scripted"
    "#;
    let (folder, loaded) = load_text(text);
    let config = loaded.unwrap().config;
    let of = |name: &str| {
        let agent = &config.agents[&AgentName::new(name).unwrap()];
        (agent.backend, agent.preset)
    };
    assert_eq!(of("claude"), (BackendKind::AcpWarm, Some(Preset::Claude)));
    assert_eq!(of("codex"), (BackendKind::AcpWarm, Some(Preset::Codex)));
    assert_eq!(of("opencode"), (BackendKind::OpencodeServer, None));
    assert_eq!(of("quick"), (BackendKind::AcpWarm, Some(Preset::Opencode)));
    assert_eq!(of("mine"), (BackendKind::AcpWarm, Some(Preset::Gemini)));
    assert_eq!(of("other"), (BackendKind::AcpWarm, None));
    assert_eq!(of("goose"), (BackendKind::Scripted, None));
    let claude = &config.agents[&AgentName::new("claude").unwrap()];
    assert_eq!((claude.sharing, claude.spare, claude.limits.memory_mb), (Sharing::Shared, 2, Some(2048)));
    assert_eq!(claude.mcp_servers[0].command, Some(folder.path().join("bin/files")), "relative to the file");
    assert!(!claude.repository_config, "what a repository brings along is off");
}

#[test]
fn an_unknown_key_is_named_with_its_file_at_every_depth() {
    for (text, key) in [
        ("hnads = 3", "`hnads`"),
        ("[pool]\nsize = 3", "`pool.size`"),
        ("[agents.a]\nmodle = \"x\"", "`agents.a.modle`"),
        ("[agents.a.limits]\nmemory = 3", "`agents.a.limits.memory`"),
        ("[[agents.a.mcp_servers]]\nnmae = \"x\"", "`agents.a.mcp_servers.0.nmae`"),
        ("[agents.a.permission]\npolcy = \"ask\"", "`agents.a.permission.polcy`"),
    ] {
        let said = refusal(text);
        assert!(said.contains(&format!("unknown key {key}")), "{said}");
        assert!(said.contains("agentpool.toml"), "{said}");
    }
}

#[test]
fn a_value_that_cannot_be_used_says_what_would_be_right() {
    for (text, wanted) in [
        ("listen = \"0.0.0.0:7717\"", "reached from outside"),
        ("listen = \"7717\"", "write it as 127.0.0.1:7717"),
        ("hands = 0", "use 1 to 1024"),
        ("hands = \"many\"", "`hands`"),
        ("poll_secs = 0", "0.05 to 3600"),
        ("log = \"agentpool=loud\"", "no log filter"),
        ("[agents.A]", "no agent name"),
        ("[agents.a]\nbackend = \"acp_warm\"", "what it is with `preset`"),
        ("[agents.a]\npreset = \"clod\"", "opencode, claude, codex, gemini, goose"),
        ("[agents.a]\nbackend = \"scripted\"\npreset = \"claude\"", "backend is scripted"),
        ("[agents.opencode]\npreset = \"codex\"\nbackend = \"opencode_server\"", "speaks acp_warm"),
        ("[agents.claude]\ncommand = \"/usr/bin/npx\"", "npx would fetch"),
        ("[agents.claude]\nspare = 17", "use 0 to 16"),
        ("[agents.claude]\nspare = -1", "agents.claude.spare"),
        ("[agents.claude]\ninit_secs = 0", "agents.claude.init_secs"),
        ("[agents.claude]\nsharing = \"both\"", "own, shared"),
        ("[agents.claude.limits]\ncpu_percent = 0", "agents.claude.limits.cpu_percent"),
        ("[[agents.claude.mcp_servers]]\nname = \"m\"", "MCP server m"),
        ("[[agents.gemini.mcp_servers]]\nname = \"m\"\ncommand = \"x\"", "repository_config = true"),
        ("[agents.codex]\nrepository_config = true", "never in a worktree"),
        ("[agents.a]\nbackend = \"magic\"", "use opencode_server"),
        ("[agents.a]\nhome = \"mine\"", "inherit, isolated"),
        ("[agents.a]\nstall_secs = 0", "agents.a.stall_secs"),
        ("[agents.a]\nmemory_soft_mb = 0", "agents.a.memory_soft_mb"),
        ("database_url = \"postgres://[\"", "postgres://user:password@host"),
    ] {
        let said = refusal(text);
        assert!(said.contains(wanted) && said.contains("agentpool.toml"), "{text}: {said}");
    }
}

#[test]
fn no_mistake_shows_a_secret() {
    for text in [
        "[agents.a.env]\nKEY = s3cret",
        "[agents.a.env]\nKEY = \"s3cret",
        "[agents.a]\nenv = \"s3cret\"",
        "[agents.a]\nmcp_servers = \"s3cret\"",
        "[[agents.a.mcp_servers]]\nname = \"m\"\nheaders = [\"s3cret\"]",
        "[[agents.a.mcp_servers]]\nname = \"m\"\nenv = { KEY = [\"s3cret\"] }",
        "[agents.a.env]\nKEY = [\"s3cret\"]",
        "database_url = \"postgres://u:s3cret@[\"",
        "database_url = [\"s3cret\"]",
    ] {
        let said = refusal(text);
        assert!(!said.contains("s3cret"), "{said}");
    }
    assert!(refusal("\n\nhands = = 3").contains("line 3"));
}

#[test]
fn a_named_file_that_is_missing_is_an_error() {
    let config = Some(PathBuf::from("/nowhere/agentpool.toml"));
    let place = ConfigPlace { config, data_dir: None };
    let error = load(&ConfigArgs { place, ..ConfigArgs::default() }).unwrap_err();
    assert!(matches!(&error, ConfigError::Unreadable { .. }), "{error}");
}
