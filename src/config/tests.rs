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
fn an_unknown_key_is_named_with_its_file_at_every_depth() {
    for (text, key) in [
        ("hnads = 3", "`hnads`"),
        ("[pool]\nsize = 3", "`pool.size`"),
        ("[agents.a]\nmodle = \"x\"", "`agents.a.modle`"),
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
        ("[agents.a]\nbackend = \"acp_warm\"", "comes with a later version"),
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
