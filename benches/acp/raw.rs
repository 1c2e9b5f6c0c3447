//! The bare protocol: an agent as a child of the benchmark, spoken to in lines, with nothing between.

use agentpool::backend::Home;
use agentpool::backend::acp::AcpConfig;
use serde_json::{Value, json};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// A talk.
pub struct Raw {
    _child: Child,
    to: ChildStdin,
    from: Lines<BufReader<ChildStdout>>,
    next_id: u64,
    session: String,
    /// How long `session/new` took, in ms.
    pub new_ms: f64,
}

/// From the prompt to the first text, and to the answer, in ms.
pub struct Times {
    pub first_ms: f64,
    pub whole_ms: f64,
}

pub fn ms(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

impl Raw {
    /// Started, initialised, and with a session.
    pub async fn start(config: &AcpConfig, folder: &Path) -> Self {
        let Home::Isolated(home) = &config.home else {
            unreachable!("the tests' agents have a home of their own")
        };
        let mut child = Command::new(&config.program)
            .args(&config.args)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", home)
            .env("XDG_CONFIG_HOME", home.join(".config"))
            .env("XDG_DATA_HOME", home.join(".local/share"))
            .env("XDG_STATE_HOME", home.join(".local/state"))
            .env("XDG_CACHE_HOME", home.join(".cache"))
            .envs(config.env.iter().map(|(name, value)| (name, value)))
            .current_dir(&config.cwd)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let (to, from) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut raw = Self {
            _child: child,
            to,
            from: BufReader::new(from).lines(),
            next_id: 0,
            session: String::new(),
            new_ms: 0.0,
        };
        let capabilities = json!({"fs": {"readTextFile": false, "writeTextFile": false}, "terminal": false});
        raw.call("initialize", json!({"protocolVersion": 1, "clientCapabilities": capabilities})).await;
        let begun = Instant::now();
        let answer = raw.call("session/new", json!({"cwd": folder, "mcpServers": []})).await;
        raw.new_ms = ms(begun);
        raw.session = answer["result"]["sessionId"].as_str().unwrap().to_owned();
        raw
    }

    pub async fn prompt(&mut self, text: &str) -> Times {
        let params = json!({"sessionId": self.session, "prompt": [{"type": "text", "text": text}]});
        let begun = Instant::now();
        let id = self.send("session/prompt", params).await;
        let mut first_ms = None;
        loop {
            let message = self.hear().await;
            if message["params"]["update"]["sessionUpdate"] == "agent_message_chunk" {
                first_ms.get_or_insert(ms(begun));
            }
            if message["id"] == id && message.get("method").is_none() {
                let whole_ms = ms(begun);
                return Times { first_ms: first_ms.unwrap_or(whole_ms), whole_ms };
            }
        }
    }

    async fn call(&mut self, method: &str, params: Value) -> Value {
        let id = self.send(method, params).await;
        loop {
            let message = self.hear().await;
            if message["id"] == id && message.get("method").is_none() {
                return message;
            }
        }
    }

    async fn send(&mut self, method: &str, params: Value) -> u64 {
        self.next_id += 1;
        let message = json!({"jsonrpc": "2.0", "id": self.next_id, "method": method, "params": params});
        self.to.write_all(format!("{message}\n").as_bytes()).await.unwrap();
        self.next_id
    }

    async fn hear(&mut self) -> Value {
        loop {
            let line = tokio::time::timeout(PATIENCE, self.from.next_line()).await.unwrap().unwrap();
            if let Ok(message) = serde_json::from_str(&line.expect("the agent lives")) {
                return message;
            }
        }
    }
}
