//! The real program, `agentpool serve`, as a process that can be killed, stopped and started again on its data folder.

use super::cluster::{TestDatabase, connection_string};
use super::leaks::{marked_processes, until};
use super::node::{PATIENCE, Talk};
use super::repos::Repos;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use uuid::Uuid;

/// Settings with the scripted agent alone.
pub const SCRIPTED: &str = "[agents.scripted]\nbackend = \"scripted\"";

/// A data folder, a project and a configuration; programs come and go on them.
pub struct Place {
    pub folder: TempDir,
    pub repos: Repos,
    /// Variables that the program gets besides the test's own.
    pub variables: Vec<(String, String)>,
    /// Where the test finds the rows; nowhere for an embedded Postgres.
    pub database: tokio_postgres::Config,
}

/// A program that runs.
pub struct Served {
    process: Child,
    pub talk: Talk,
    said: Arc<Mutex<Vec<String>>>,
}

impl Place {
    /// With these lines of configuration besides the data folder and a free port.
    pub fn new(settings: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        // As root, Postgres runs under another account and has to get through.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o711)).unwrap();
        let data = folder.path().join("data");
        let text = format!(
            "data_dir = {data:?}\nlisten = \"127.0.0.1:0\"\nlog_format = \"json\"\npoll_secs = 60.0\n{settings}\n"
        );
        fs::write(folder.path().join("agentpool.toml"), text).unwrap();
        Self { folder, repos: Repos::new(), variables: Vec::new(), database: tokio_postgres::Config::new() }
    }

    /// As [`Place::new`], on a database that is there already.
    pub fn on(database: &TestDatabase, settings: &str) -> Self {
        Self::at(&database.config, settings)
    }

    /// As [`Place::on`], by how to connect.
    pub fn at(database: &tokio_postgres::Config, settings: &str) -> Self {
        let url = connection_string(database);
        let mut place = Self::new(&format!("database_url = {url:?}\n{settings}"));
        place.database = database.clone();
        place
    }

    /// The node's id, once it has started.
    pub fn node_id(&self) -> Uuid {
        fs::read_to_string(self.data().join("node_id")).unwrap().trim().parse().unwrap()
    }

    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_agentpool"));
        command.arg("serve").arg("--config").arg(self.folder.path().join("agentpool.toml"));
        command.env_remove("DATABASE_URL").env_remove("RUST_LOG").stdin(Stdio::null());
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Starts it and waits until it says that it is ready.
    pub async fn serve(&self) -> Served {
        self.start(self.command()).await
    }

    /// The same, with these variables in its environment.
    pub async fn serve_with(&self, variables: &[(&str, &str)]) -> Served {
        let mut command = self.command();
        command.envs(variables.iter().copied());
        self.start(command).await
    }

    /// The same, with a time of day that is off by `-1h`, `+1h`, … while time goes by as always. By the library of Debian's
    /// faketime and not by its command, which would stand between us and the program.
    pub async fn serve_at(&self, offset: &str) -> Served {
        let library = fs::read_dir("/usr/lib")
            .unwrap()
            .map(|entry| entry.unwrap().path().join("faketime/libfaketimeMT.so.1"))
            .find(|library| library.exists())
            .expect("Debian's package faketime is installed");
        let library = library.to_str().unwrap();
        self.serve_with(&[("LD_PRELOAD", library), ("FAKETIME", offset), ("DONT_FAKE_MONOTONIC", "1")]).await
    }

    /// Starts a command of the test's own as this place's node.
    pub async fn start(&self, mut command: Command) -> Served {
        let mut process = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let said = Arc::new(Mutex::new(Vec::new()));
        let (tell, told) = tokio::sync::oneshot::channel();
        let lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let heard = said.clone();
        std::thread::spawn(move || {
            let mut tell = Some(tell);
            for line in lines.map_while(Result::ok) {
                if line.contains("agentpool is ready")
                    && let Some(tell) = tell.take()
                {
                    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
                    let _ = tell.send(find_url(&line).expect("the line says where"));
                }
                heard.lock().unwrap().push(line);
            }
        });
        let url = tokio::time::timeout(PATIENCE, told).await.expect("it is ready in time");
        let url = url.unwrap_or_else(|_| panic!("it ended: {:#?}", said.lock().unwrap()));
        let token = fs::read_to_string(self.data().join("token")).unwrap().trim().to_owned();
        let database = self.database.clone();
        let talk = Talk { url, token, database, project: self.repos.user.clone() };
        Served { process, talk, said }
    }

    /// The mark of everything that a node on this folder starts.
    pub fn mark(&self) -> String {
        format!("agentpool-{}", self.node_id())
    }

    /// Waits until nothing that carries the mark is alive.
    pub fn nothing_is_left(&self) {
        let mark = self.mark();
        let deadline = Instant::now() + PATIENCE;
        while !marked_processes(&mark).is_empty() {
            assert!(Instant::now() < deadline, "still alive: {:?}", names(&marked_processes(&mark)));
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// After every test: whatever was started here is gone, or will be within the time that shims take.
impl Drop for Place {
    fn drop(&mut self) {
        if !std::thread::panicking() && self.data().join("node_id").exists() {
            self.nothing_is_left();
        }
    }
}

impl Served {
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.process.id().cast_signed()), signal).unwrap();
    }

    /// Waits until it has said this.
    pub async fn says(&self, words: &str) {
        until(words, PATIENCE, || self.said.lock().unwrap().iter().any(|line| line.contains(words))).await;
    }

    /// Waits for its end.
    pub async fn ended(mut self) -> (ExitStatus, Vec<String>) {
        let waiting = tokio::task::spawn_blocking(move || (self.process.wait().unwrap(), self));
        let (status, served) =
            tokio::time::timeout(PATIENCE, waiting).await.expect("it ends in time").unwrap();
        let said = served.said.lock().unwrap().clone();
        (status, said)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // After a failed assertion; what it had started ends by its lifelines.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn find_url(value: &serde_json::Value) -> Option<String> {
    match value {
        serde_json::Value::Object(fields) => fields
            .get("url")
            .and_then(|url| url.as_str().map(str::to_owned))
            .or_else(|| fields.values().find_map(find_url)),
        _ => None,
    }
}

fn names(pids: &[u32]) -> Vec<String> {
    let name = |pid: &u32| {
        fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("cmdline")).unwrap_or_default()
    };
    pids.iter().map(|pid| format!("{pid}: {}", name(pid).replace('\0', " "))).collect()
}
