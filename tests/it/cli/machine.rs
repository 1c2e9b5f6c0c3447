//! Commands that work on this machine: doctor, the scripted model, an installation, and the whole service.

use super::*;
use crate::support::repos::git;

#[tokio::test]
async fn doctor_says_of_each_part_how_it_stands() {
    let user = User::of(&nobody());
    let file = user.home.path().join("agentpool.toml");
    fs::write(&file, "[agents.play]\nbackend = \"scripted\"\n").unwrap();
    let database = fresh_database().await;
    let url = database.url();
    let checks = user.run(&["doctor", "--json", "--database-url", &url]).await.expect(0).json();
    let found = |name: &str| {
        let check = checks.as_array().unwrap().iter().find(|check| check["name"] == name);
        check.unwrap_or_else(|| panic!("no {name}: {checks}")).clone()
    };
    for name in ["data folder", "database", "git", "agent play"] {
        assert_eq!(found(name)["verdict"], "ok", "{checks}");
    }
    assert!(found("database")["found"].as_str().unwrap().contains("delivers notifications"));
    assert_eq!(found("service")["verdict"], "warn");
    assert!(found("service")["advice"].as_str().unwrap().contains("agentpool serve"));
    assert!(!user.data_dir().exists(), "doctor leaves nothing behind");

    let away = "postgres://ann:s3cret@127.0.0.1:1/work";
    let ended = user.run(&["doctor", "--database-url", away]).await.expect(1);
    assert!(ended.stdout.contains("fail  database"), "{}", ended.stdout);
    assert!(!ended.stdout.contains("s3cret") && !ended.stderr.contains("s3cret"));
}

#[tokio::test]
async fn doctor_fails_on_an_agent_that_cannot_start() {
    let user = User::of(&nobody());
    let file = user.home.path().join("agentpool.toml");
    fs::write(&file, "[agents.oc]\ncommand = \"/no/such/opencode\"\n").unwrap();
    let ended = user.run(&["doctor"]).await.expect(1);
    assert!(ended.stdout.contains("fail  agent oc"), "{}", ended.stdout);
    assert!(ended.stdout.contains("agentpool agents install opencode"), "{}", ended.stdout);
}

#[tokio::test]
async fn the_scripted_model_serves_until_a_signal_and_ends_with_0() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let user = User::new();
        let mut model = user.start(&["scripted-model"]);
        let base = model.line_with("http://127.0.0.1:").await;
        let models: Value =
            reqwest::get(format!("{}/models", base.trim())).await.unwrap().json().await.unwrap();
        assert!(models["data"].is_array(), "{models}");
        model.signal(signal);
        model.end().await.expect(0);
    }
}

#[tokio::test]
async fn what_is_installed_already_is_found_and_not_fetched_again() {
    let user = User::new();
    let version = agentpool::install::Package::Opencode.version();
    let modules = user.data_dir().join(format!("npm/opencode-ai-{version}/node_modules"));
    let cpu = if cfg!(target_arch = "aarch64") { "arm64" } else { "x64" };
    let bin = modules.join(format!("opencode-linux-{cpu}/bin"));
    fs::create_dir_all(&bin).unwrap();
    fs::create_dir_all(modules.join("opencode-ai")).unwrap();
    fs::write(modules.join("opencode-ai/package.json"), json!({"version": version}).to_string()).unwrap();
    fs::write(bin.join("opencode"), "").unwrap();
    let installed = user.run(&["agents", "install", "opencode", "--json"]).await.expect(0).json();
    let program = bin.join("opencode");
    assert_eq!(installed, json!({"name": "opencode", "version": version, "program": program, "args": []}));
}

/// The real service, the real queue and a real repository, and nothing but the command line.
#[tokio::test]
async fn a_task_goes_all_the_way_from_the_command_line() {
    let database = fresh_database().await;
    let user = User::new().with("DATABASE_URL", database.url());
    let port = free_port();
    let text = format!(
        "listen = \"127.0.0.1:{port}\"\n[agents.play]\nbackend = \"scripted\"\n\
                        permission = {{ policy = \"ask\", deadline_secs = 60 }}\n"
    );
    fs::write(user.home.path().join("agentpool.toml"), text).unwrap();
    let file = user.home.path().join("agentpool.toml").to_str().unwrap().to_owned();
    let user = user.with("AGENTPOOL_CONFIG", file);
    let service = user.start(&["serve"]);
    answers(&user).await;
    let repos = Repos::new();

    let submit = ["submit", "--follow", "TOOL:write new.txt hello\nSAY: done it"];
    let said = user.run_in(&repos.user, &submit).await.expect(0).stdout;
    assert!(said.contains("done it") && said.contains("→ write"), "{said}");
    let sessions = user.run(&["sessions", "--json"]).await.expect(0).json();
    let session = sessions[0]["id"].as_str().unwrap();
    let changes = user.run(&["changes", session]).await.expect(0).stdout;
    assert!(changes.contains("new.txt"), "{changes}");
    assert!(user.run(&["changes", session, "--diff"]).await.expect(0).stdout.contains("+hello"));
    user.run(&["changes", "apply", session, "--branch", "from-agent"]).await.expect(0);
    let applied = git(&repos.user, &["show", "from-agent:new.txt"]);
    assert_eq!(applied.trim(), "hello");

    let mut asking = user.start(&["submit", "--session", session, "--follow", "ASK: may I"]);
    let line = asking.line_with("agentpool permission answer").await;
    let words: Vec<&str> = line.split_whitespace().collect();
    let id = words[words.iter().position(|word| *word == "answer").unwrap() + 1..]
        .iter()
        .find(|word| Uuid::parse_str(word).is_ok())
        .unwrap();
    user.run(&["permission", "answer", id, "allow"]).await.expect(0);
    asking.end().await.expect(0);
    user.run(&["permission", "answer", id, "allow"]).await.expect(4);

    user.run(&["submit", "--session", session, "--follow", "FAIL:bad_request"]).await.expect(3);
    user.run(&["task", &TASK.to_string()]).await.expect(4);
    user.run(&["session", "close", session]).await.expect(0);
    let doctor = user.run(&["doctor"]).await.expect(0).stdout;
    assert!(doctor.contains(&format!("at http://127.0.0.1:{port}")), "{doctor}");
    service.signal(Signal::SIGTERM);
    service.end().await.expect(0);
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

async fn answers(user: &User) {
    let begun = std::time::Instant::now();
    while user.run(&["pool"]).await.code != Some(0) {
        assert!(begun.elapsed().as_secs() < 60, "the service does not come up");
    }
}
