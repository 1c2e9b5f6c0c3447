//! The agent of tests/fixture_agent: its program, and a talk with it in raw lines. What it obeys is in its main.rs.

use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Split};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// How long a line may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// The program. `cargo test` builds it; `cargo test --test it` does not, so it is built here where it is missing or older
/// than its sources.
pub fn fixture_agent() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let test = std::env::current_exe().unwrap();
        // target/PROFILE/deps/it-….
        let profile = test.ancestors().nth(2).unwrap();
        let program = profile.join("examples/fixture_agent");
        if !is_fresh(&program) {
            build(profile);
        }
        assert!(program.exists(), "{} is missing: run `cargo build --examples`", program.display());
        program
    })
}

fn is_fresh(program: &Path) -> bool {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixture_agent");
    let newest = std::fs::read_dir(sources).unwrap().map(|entry| changed(&entry.unwrap().path())).max();
    program.exists() && Some(changed(program)) >= newest
}

fn changed(path: &Path) -> SystemTime {
    std::fs::metadata(path).unwrap().modified().unwrap()
}

/// By the cargo that runs the tests: it holds no lock while they run.
fn build(profile: &Path) {
    let name = profile.file_name().unwrap().to_str().unwrap();
    let built = std::process::Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--example", "fixture_agent", "--profile"])
        .arg(if name == "debug" { "dev" } else { name })
        .arg("--target-dir")
        .arg(profile.parent().unwrap())
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .unwrap();
    assert!(built.success(), "the fixture agent could not be built: try `cargo build --examples`");
}

/// A talk in raw lines, without any client of ours between.
pub struct RawTalk {
    pub child: Child,
    to: ChildStdin,
    from: Split<BufReader<ChildStdout>>,
    next_id: u64,
    /// Messages that came before the answer that was waited for.
    pub heard: Vec<Value>,
}

impl RawTalk {
    /// Starts the agent with this home and these faults.
    pub fn start(home: &Path, faults: &str) -> Self {
        let mut child = Command::new(fixture_agent())
            .env_clear()
            .env("HOME", home)
            .env("FIXTURE", faults)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let to = child.stdin.take().unwrap();
        let from = BufReader::new(child.stdout.take().unwrap()).split(b'\n');
        Self { child, to, from, next_id: 0, heard: Vec::new() }
    }

    /// The next line that is a message.
    pub async fn hear(&mut self) -> Value {
        loop {
            let line =
                tokio::time::timeout(PATIENCE, self.from.next_segment()).await.unwrap().unwrap().unwrap();
            if let Ok(message) = serde_json::from_slice(&line) {
                return message;
            }
        }
    }

    pub async fn send(&mut self, message: &Value) {
        self.to.write_all(format!("{message}\n").as_bytes()).await.unwrap();
    }

    /// Sends a request; returns its id.
    pub async fn ask(&mut self, method: &str, params: Value) -> u64 {
        self.next_id += 1;
        let id = self.next_id;
        self.send(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})).await;
        id
    }

    /// The answer to a request, whole; what comes before it is kept.
    pub async fn answer(&mut self, id: u64) -> Value {
        loop {
            let message = self.hear().await;
            if message["id"] == id && message.get("method").is_none() {
                return message;
            }
            self.heard.push(message);
        }
    }

    pub async fn call(&mut self, method: &str, params: Value) -> Value {
        let id = self.ask(method, params).await;
        self.answer(id).await
    }

    /// Initializes and opens a session in a folder; returns its id.
    pub async fn open(&mut self, folder: &Path) -> String {
        self.call("initialize", json!({"protocolVersion": 1, "clientCapabilities": {}})).await;
        let opened = self.call("session/new", json!({"cwd": folder, "mcpServers": []})).await;
        opened["result"]["sessionId"].as_str().unwrap_or_else(|| panic!("no session: {opened}")).to_owned()
    }

    /// Sends a prompt; returns its id.
    pub async fn prompt(&mut self, session: &str, text: &str) -> u64 {
        let prompt = json!({"sessionId": session, "prompt": [{"type": "text", "text": text}]});
        self.ask("session/prompt", prompt).await
    }

    pub async fn cancel(&mut self, session: &str) {
        let params = json!({"sessionId": session});
        self.send(&json!({"jsonrpc": "2.0", "method": "session/cancel", "params": params})).await;
    }

    /// The text that was heard so far, taken away.
    pub fn said(&mut self) -> String {
        let heard = std::mem::take(&mut self.heard);
        let updates = heard.iter().map(|message| &message["params"]["update"]);
        updates
            .filter(|update| update["sessionUpdate"] == "agent_message_chunk")
            .filter_map(|update| update["content"]["text"].as_str())
            .collect()
    }
}
