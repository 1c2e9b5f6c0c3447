//! The real program, run in an environment of its own, and services that say what a test wants.

use super::shims::agentpool;
use axum::Router;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use tokio::time::timeout;

/// Longer than any command takes, short enough to fail a hung one.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a command left.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {}", self.stdout))
    }
}

/// A user with a home, a data folder, and nothing of ours in the environment.
pub struct User {
    pub home: TempDir,
    variables: Vec<(String, String)>,
}

impl User {
    pub fn new() -> Self {
        Self { home: tempfile::tempdir().unwrap(), variables: Vec::new() }
    }

    /// With one variable more.
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.variables.push((name.to_owned(), value.into()));
        self
    }

    /// Who speaks with the service at that address.
    pub fn of(url: &str) -> Self {
        Self::new().with("AGENTPOOL_URL", url)
    }

    /// The folder that `AGENTPOOL_DATA_DIR` names.
    pub fn data_dir(&self) -> std::path::PathBuf {
        self.home.path().join("data")
    }

    /// Runs a command to its end.
    pub async fn run(&self, args: &[&str]) -> Ended {
        self.run_in(self.home.path(), args).await
    }

    /// As [`User::run`], with that text on its stdin.
    pub async fn run_with(&self, stdin: &str, args: &[&str]) -> Ended {
        use tokio::io::AsyncWriteExt;
        let mut child = self.command(self.home.path(), args).stdin(Stdio::piped()).spawn().unwrap();
        let mut pipe = child.stdin.take().unwrap();
        let text = stdin.to_owned();
        // A command that has read enough closes it early.
        let fed = tokio::spawn(async move { drop(pipe.write_all(text.as_bytes()).await) });
        let output = timeout(PATIENCE, child.wait_with_output()).await.expect("the command hangs").unwrap();
        fed.await.unwrap();
        Ended {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// As [`User::run`], in another folder.
    pub async fn run_in(&self, folder: &Path, args: &[&str]) -> Ended {
        let mut command = self.command(folder, args);
        let output = timeout(PATIENCE, command.output()).await.expect("the command hangs").unwrap();
        Ended {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Starts a command.
    pub fn start(&self, args: &[&str]) -> Running {
        let mut child = self.command(self.home.path(), args).spawn().unwrap();
        let stdout = Some(BufReader::new(child.stdout.take().unwrap()).lines());
        let stderr = child.stderr.take().unwrap();
        Running { child, stdout, stderr }
    }

    fn command(&self, folder: &Path, args: &[&str]) -> Command {
        let mut command = Command::new(agentpool());
        command
            .args(args)
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("HOME", self.home.path())
            .env("AGENTPOOL_DATA_DIR", self.data_dir())
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }
}

/// A command that runs.
pub struct Running {
    child: Child,
    /// None once nobody reads it any more.
    stdout: Option<Lines<BufReader<ChildStdout>>>,
    stderr: ChildStderr,
}

impl Running {
    /// The next line of its stdout that contains `words`.
    pub async fn line_with(&mut self, words: &str) -> String {
        let found = async {
            let lines = self.stdout.as_mut().expect("it was closed");
            while let Some(line) = lines.next_line().await.unwrap() {
                if line.contains(words) {
                    return line;
                }
            }
            panic!("it ended without a line with {words:?}")
        };
        timeout(PATIENCE, found).await.unwrap_or_else(|_| panic!("no line with {words:?}"))
    }

    /// Whoever read its stdout has gone.
    pub fn close_stdout(&mut self) {
        self.stdout = None;
    }

    pub fn signal(&self, signal: Signal) {
        let pid = self.child.id().expect("it still runs");
        kill(Pid::from_raw(pid.cast_signed()), signal).unwrap();
    }

    /// Waits for its end. What was read of stdout before is not in it.
    pub async fn end(mut self) -> Ended {
        let whole = async {
            let (mut stdout, mut stderr) = (String::new(), String::new());
            let out = async {
                let Some(mut lines) = self.stdout else { return };
                while let Some(line) = lines.next_line().await.unwrap() {
                    stdout.push_str(&line);
                    stdout.push('\n');
                }
            };
            let (_, read) = tokio::join!(out, self.stderr.read_to_string(&mut stderr));
            read.unwrap();
            Ended { code: self.child.wait().await.unwrap().code(), stdout, stderr }
        };
        timeout(PATIENCE, whole).await.expect("the command does not end")
    }
}

/// Serves canned answers until the test ends; says where.
pub async fn serve(router: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    url
}

/// An address of this machine at which nobody listens.
pub fn nobody() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}
