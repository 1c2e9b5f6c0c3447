//! Says hello to an agent that speaks ACP: the one way to hear the version of each of them. Opens no conversation, and lets
//! the agent see no home but an empty one.

use crate::config::{AcpLaunch, AgentConfig, Home, LaunchError};
use crate::domain::agent::AgentName;
use crate::process::Environment;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// The longest answer that is read, in bytes: the real ones have some 2,000.
const ANSWER_BYTES_MAX: u64 = 1 << 20;

/// What was heard.
#[derive(Debug)]
pub(super) struct Hello {
    pub(super) program: PathBuf,
    pub(super) version: String,
}

/// Why nothing was heard.
#[derive(Debug)]
pub(super) enum Unheard {
    /// It cannot be started.
    Launch(LaunchError),
    /// It was, and did not answer as it should.
    Said(String),
}

pub(super) async fn hello(name: &AgentName, agent: &AgentConfig, data_dir: &Path) -> Result<Hello, Unheard> {
    let said = |shown: &Path, problem: &str| Unheard::Said(format!("{} {problem}", shown.display()));
    let home = tempfile::tempdir().map_err(|error| Unheard::Said(error.to_string()))?;
    let away = AgentConfig { home: Home::Isolated, ..agent.clone() };
    let launch = away.acp_launch(name, data_dir, home.path()).map_err(Unheard::Launch)?;
    let program = launch.program.clone();
    let mut group =
        start(&launch, home.path()).map_err(|error| said(&program, &format!("cannot be run: {error}")))?;
    let patience = Duration::from_secs(agent.init_secs);
    match timeout(patience, answer(&mut group.0)).await {
        Err(_) => Err(said(&program, &format!("does not answer within {} seconds", agent.init_secs))),
        Ok(Err(error)) => Err(said(&program, &format!("does not speak ACP: {error}"))),
        Ok(Ok(answer)) => {
            let version = answer["result"]["agentInfo"]["version"].as_str();
            let version = version.unwrap_or("it does not tell its version").to_owned();
            Ok(Hello { program, version })
        }
    }
}

fn start(launch: &AcpLaunch, home: &Path) -> io::Result<Group> {
    for (path, text) in &launch.files {
        path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
        std::fs::write(path, text)?;
    }
    let mut env = Environment::allow_listed().set("HOME", home);
    for (name, below) in [
        ("XDG_CONFIG_HOME", ".config"),
        ("XDG_DATA_HOME", ".local/share"),
        ("XDG_STATE_HOME", ".local/state"),
        ("XDG_CACHE_HOME", ".cache"),
    ] {
        env = env.set(name, home.join(below));
    }
    for (name, value) in &launch.env {
        env = env.set(name, value);
    }
    let mut command = Command::new(&launch.program);
    command.args(&launch.args).env_clear().envs(env.vars()).current_dir(home).process_group(0);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
    command.spawn().map(Group)
}

/// The first answer; what comes before it is passed over.
async fn answer(child: &mut Child) -> io::Result<Value> {
    let hello = json!({
        "jsonrpc": "2.0", "id": 0, "method": "initialize",
        "params": { "protocolVersion": 1, "clientCapabilities": {} },
    });
    let (mut stdin, stdout) = child.stdin.take().zip(child.stdout.take()).expect("asked for as pipes");
    // One that ended before it read may have said why: what it wrote decides. It fits into the pipe, so nothing waits.
    let _ = stdin.write_all(format!("{hello}\n").as_bytes()).await;
    let mut lines = BufReader::new(stdout.take(ANSWER_BYTES_MAX)).split(b'\n');
    while let Some(line) = lines.next_segment().await? {
        match serde_json::from_slice::<Value>(&line) {
            Ok(answer) if answer["id"] == 0 && answer["result"].is_object() => return Ok(answer),
            Ok(answer) if answer["id"] == 0 => return Err(io::Error::other(answer["error"].to_string())),
            Ok(_) | Err(_) => {}
        }
    }
    Err(io::Error::other("it ended without an answer"))
}

/// The agent and what it started, killed when nobody listens any more.
struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.0.id() {
            let _ = killpg(Pid::from_raw(leader.cast_signed()), Signal::SIGKILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::agent::BackendKind;

    async fn heard(script: &str) -> Result<String, String> {
        let agent = AgentConfig {
            backend: BackendKind::AcpWarm,
            command: Some("/bin/sh".into()),
            args: vec!["-c".into(), script.into()],
            init_secs: 2,
            ..AgentConfig::default()
        };
        let name = AgentName::new("a").unwrap();
        hello(&name, &agent, Path::new("/nowhere")).await.map(|hello| hello.version).map_err(|unheard| {
            match unheard {
                Unheard::Launch(error) => error.to_string(),
                Unheard::Said(problem) => problem,
            }
        })
    }

    #[tokio::test]
    async fn an_agent_tells_its_version_or_what_is_wrong_with_it() {
        let answer =
            r#"read x; echo banner; echo '{"id":0,"result":{"agentInfo":{"version":"1.2"}}}'; sleep 60"#;
        assert_eq!(heard(answer).await, Ok("1.2".to_owned()));
        let refusal = heard(r#"echo '{"id":0,"error":{"message":"who are you"}}'"#).await.unwrap_err();
        assert!(refusal.contains("who are you"), "{refusal}");
        assert!(heard("true").await.unwrap_err().contains("does not speak ACP"));
        assert!(heard("sleep 60").await.unwrap_err().contains("within 2 seconds"));
    }
}
