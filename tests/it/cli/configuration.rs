//! Where the configuration comes from, and what is said when it cannot be used.

use super::*;

#[tokio::test]
async fn flags_win_over_variables_and_these_over_the_file() {
    let user = User::new()
        .with("AGENTPOOL_HANDS", "3")
        .with("AGENTPOOL_POOL__LIVE_MAX", "5")
        .with("DATABASE_URL", "postgres://ann:s3cret@db.example/work")
        .with("AGENTPOOL_LOG_FORMAT", "json");
    let file = user.home.path().join("agentpool.toml");
    let text = "hands = 2\nlog = \"warn\"\n[pool]\nlive_max = 4\nidle_ttl_secs = 9\nmemory_mb = 700\n\
                [agents.play]\nbackend = \"scripted\"\nenv = { KEY = \"s3cret\" }\n";
    fs::write(&file, text).unwrap();
    let ended = user.run(&["config", "check", "--json", "--log-format", "text"]).await.expect(0);
    assert!(!ended.stdout.contains("s3cret"), "{}", ended.stdout);
    let shown = ended.json();
    let (config, origins) = (&shown["config"], &shown["origins"]);
    assert_eq!((&config["hands"], &origins["hands"]), (&json!(3), &json!("AGENTPOOL_HANDS")));
    assert_eq!(config["pool"], json!({"live_max": 5, "idle_ttl_secs": 9, "memory_mb": 700}));
    assert_eq!(origins["pool.live_max"], "AGENTPOOL_POOL__LIVE_MAX");
    assert_eq!(config["log_format"], "text");
    assert_eq!(origins["log_format"], "--log-format");
    assert_eq!(config["database_url"], "postgres://ann:***@db.example:5432/work");
    assert_eq!(origins["database_url"], "DATABASE_URL");
    let path = fs::canonicalize(&file).unwrap();
    assert_eq!(origins["log"].as_str().map(fs::canonicalize).unwrap().unwrap(), path);
    assert_eq!(config["data_dir"], json!(user.data_dir()));

    let table = user.run(&["config", "check"]).await.expect(0).stdout;
    assert!(table.contains("agents.play.env.KEY") && !table.contains("s3cret"), "{table}");
    assert!(!table.contains('\u{1b}'), "colours are for terminals");
}

#[tokio::test]
async fn a_configuration_that_cannot_be_used_exits_78_and_says_why() {
    let user = User::new();
    let file = user.home.path().join("agentpool.toml");
    fs::write(&file, "[pool]\nsize = 3\n").unwrap();
    for command in [&["config", "check"][..], &["serve"], &["tasks"], &["doctor"]] {
        let said = user.run(command).await.expect(78).stderr;
        assert!(said.contains("`pool.size`") && said.contains("agentpool.toml"), "{said}");
    }
    fs::write(&file, "").unwrap();
    let said = user.run(&["serve", "--listen", "0.0.0.0:7717"]).await.expect(78).stderr;
    assert!(said.contains("`listen` from --listen") && said.contains("127.0.0.1:7717"), "{said}");
    let said = User::new().with("AGENTPOOL_HNADS", "3").run(&["config", "check"]).await.expect(78).stderr;
    assert!(said.contains("AGENTPOOL_HNADS"), "{said}");
    let said = user.run(&["config", "check", "--config", "missing.toml"]).await.expect(78).stderr;
    assert!(said.contains("missing.toml"), "{said}");
    fs::write(&file, "[agents.a]\nbackend = \"scripted\"\nenv_file = \"missing.env\"\n").unwrap();
    let said = user.run(&["config", "check"]).await.expect(78).stderr;
    assert!(said.contains("missing.env"), "{said}");
}
