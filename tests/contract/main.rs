//! The API keeps to its own document: schemathesis asks the real program what `/api/openapi.json` describes, and much that it
//! does not. No answer may be a 5xx or one that the document does not tell of. `cargo test --test contract` installs it from
//! PyPI under `target/` the first time; it needs python3 with venv. `CONTRACT_EXAMPLES=1000` asks longer than the 50 of each
//! operation.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed, and a panic says where")]

#[allow(
    dead_code,
    unused_imports,
    unused_macros,
    reason = "the machinery of tests/it, of which this test needs a part"
)]
#[path = "../it/support/mod.rs"]
mod support;

use agentpool::wire::api::{
    CheckpointView, NewPermissionRule, NewSession, NewTask, PermissionRuleView, PermissionView, SessionView,
    TaskView,
};
use nix::sys::signal::Signal;
use reqwest::StatusCode;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use support::cluster::fresh_database;
use support::node::Talk;
use support::serve::Place;

const ASKING: &str = "[agents.scripted]\nbackend = \"scripted\"\npermission = { policy = \"ask\" }";

#[tokio::test(flavor = "multi_thread")]
async fn every_operation_answers_as_it_is_described() {
    let schemathesis = installed();
    let database = fresh_database().await;
    let place = Place::on(&database, ASKING);
    let served = place.serve().await;
    let config = place.folder.path().join("schemathesis.toml");
    std::fs::write(&config, things_to_ask_about(&served.talk).await).unwrap();
    let examples = std::env::var("CONTRACT_EXAMPLES").unwrap_or_else(|_| "50".to_owned());
    let mut command = Command::new(schemathesis);
    command
        .arg("--config-file")
        .arg(&config)
        .args(["run", &format!("{}/api/openapi.json", served.talk.url)])
        .args(["-H", &format!("Authorization: Bearer {}", served.talk.token)])
        .args(["-n", &examples, "--phases", "coverage,fuzzing", "--continue-on-failure", "--seed", "7717"])
        // Streams do not end; tests/it follows them.
        .args(["--exclude-path-regex", "/events$", "--request-timeout", "30"])
        // What a schema cannot say (a path that is a repository) is refused although it fits the schema.
        // An address that sends wrong tokens is not listened to after the tenth: tests/it asks every operation without one.
        .args([
            "--exclude-checks",
            "positive_data_acceptance,ignored_auth",
            "--warnings",
            "off",
            "--no-color",
        ])
        .current_dir(place.folder.path());
    let told = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let words = String::from_utf8_lossy(&told.stdout);
    assert!(told.status.success(), "{words}{}", String::from_utf8_lossy(&told.stderr));
    let tested = words.lines().find(|line| line.contains("Tested:")).unwrap_or_default();
    let count: usize = tested.split_whitespace().last().and_then(|count| count.parse().ok()).unwrap_or(0);
    assert!(count >= 20, "{words}");
    println!("{}", words.split("SUMMARY").last().unwrap_or_default());
    served.signal(Signal::SIGTERM);
    served.ended().await;
}

/// A session, a task that has ended and a question that waits: without them most answers were 404.
async fn things_to_ask_about(talk: &Talk) -> String {
    let path = Some(talk.project.display().to_string());
    let new = NewSession { path, ..NewSession::default() };
    let mut config = String::new();
    let mut of = |path: &str, name: &str, value: &str| {
        let regex = format!("/api/{path}/\\\\{{");
        writeln!(
            config,
            "[[operations]]\ninclude-path-regex = \"{regex}\"\nparameters = {{ {name} = \"{value}\" }}"
        )
        .unwrap();
    };
    let session: SessionView = talk.post("/api/sessions", &new, StatusCode::CREATED).await;
    let task = |session: &SessionView, prompt: &str| NewTask {
        session_id: session.id,
        agent: "scripted".into(),
        prompt: prompt.into(),
        ..NewTask::default()
    };
    let work = task(&session, "TOOL:write new.txt x");
    let ended: TaskView = talk.post("/api/tasks", &work, StatusCode::CREATED).await;
    talk.finish(ended.id).await;
    let checkpoints: Vec<CheckpointView> =
        talk.get(&format!("/api/sessions/{}/checkpoints", session.id)).await;
    of("sessions", "id", &session.id.to_string());
    of("tasks", "id", &ended.id.to_string());
    of("agents", "name", "scripted");
    let asking: SessionView = talk.post("/api/sessions", &new, StatusCode::CREATED).await;
    talk.post::<TaskView>("/api/tasks", &task(&asking, "ASK: may I"), StatusCode::CREATED).await;
    let asked: PermissionView = talk.one_pending_permission().await;
    of("permissions", "id", &asked.id.to_string());
    let rule = NewPermissionRule {
        agent: Some("scripted".into()),
        tool: "webfetch".into(),
        decision: "deny".into(),
        ..NewPermissionRule::default()
    };
    let rule: PermissionRuleView = talk.post("/api/permission-rules", &rule, StatusCode::CREATED).await;
    of("permission-rules", "id", &rule.id.to_string());
    writeln!(
        config,
        "[[operations]]\ninclude-path-regex = \"/restore$\"\nparameters = {{ id = \"{}\", checkpoint = {} }}",
        session.id, checkpoints[0].id
    )
    .unwrap();
    config
}

/// The program, installed where it is not.
fn installed() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let place = root.join("target/schemathesis");
    let program = place.join("bin/schemathesis");
    if !program.exists() {
        let run = |command: &mut Command| {
            let told = command.output().expect("the contract test needs python3");
            let words = String::from_utf8_lossy(&told.stderr).into_owned();
            assert!(
                told.status.success(),
                "schemathesis could not be installed (python3 with venv, PyPI): {words}"
            );
        };
        run(Command::new("python3").args(["-m", "venv"]).arg(&place));
        let requirements = root.join("fixtures/schemathesis/requirements.txt");
        run(Command::new(place.join("bin/pip")).args(["install", "--quiet", "-r"]).arg(requirements));
    }
    program
}
