//! A private Postgres cluster in the data folder: found, initialised, started, stopped. Knows nothing of tables; speaks
//! SQL only to see that the server answers and to make the one database.

mod binaries;
mod data;
mod log;
mod runtime_folder;

pub use binaries::{MAJOR_MIN, PostgresBinaries, find_binaries};

use crate::domain::turn::StopForce;
use crate::process::{
    Account, Child, ChildExit, ChildSpec, Environment, Limits, Shims, SpawnError, StdinMode, StopPlan,
};
use data::DataFolder;
use log::RotatedLog;
use nix::unistd::geteuid;
use std::ffi::OsString;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::Instant;
use tokio_postgres::{Client, Config, NoTls};

/// The superuser and the database.
const ROLE: &str = "agentpool";

/// How long the server may take until it answers; recovery after a crash is part of it.
const START_DEADLINE: Duration = Duration::from_secs(60);

/// What one connection attempt may take, and the pause between two.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
const CONNECT_PAUSE: Duration = Duration::from_millis(50);

/// How long a fast shutdown may take before an immediate one, and that one before KILL.
const STOP_GRACE: Duration = Duration::from_secs(30);

/// A running cluster. Dropping it shuts the server down without waiting.
#[derive(Debug)]
pub struct EmbeddedPostgres {
    child: Child,
    socket_folder: PathBuf,
    major: u32,
}

/// A setting of the server, by its name in `postgresql.conf`.
pub type Setting<'a> = (&'a str, &'a str);

/// Why the cluster does not run. Nothing of it is left running.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedPostgresError {
    /// Postgres refuses to run as root, and there is nobody else.
    #[error(
        "Postgres does not run as root and there is no user `postgres` or `nobody`: start agentpool as an ordinary user, or set DATABASE_URL"
    )]
    NoAccount,
    /// The account cannot get to its files.
    #[error(
        "Postgres runs as user {uid}, which may not enter {folder:?}: `chmod o+x` it, or choose another data folder"
    )]
    FolderClosed {
        /// The topmost closed folder.
        folder: PathBuf,
        /// Who may not enter.
        uid: u32,
    },
    /// The cluster belongs to somebody else than the account it would run as.
    #[error(
        "{folder:?} belongs to user {owner}, but Postgres would run as user {uid}: start agentpool as before, or `chown -R` the folder"
    )]
    ForeignCluster {
        /// The cluster's folder.
        folder: PathBuf,
        /// Its owner.
        owner: u32,
        /// The account.
        uid: u32,
    },
    /// Postgres cannot read the files of another major version.
    #[error(
        "the cluster was made by PostgreSQL {cluster}, but {dir:?} is PostgreSQL {binaries}: install {cluster}, point AGENTPOOL_PG_BIN at it, or dump and restore"
    )]
    OtherMajor {
        /// Of the files.
        cluster: u32,
        /// Of the programs.
        binaries: u32,
        /// Where those are.
        dir: PathBuf,
    },
    /// A server of this cluster is alive that is not ours.
    #[error("a Postgres server (pid {pid}) already runs on {folder:?}: stop it first")]
    AlreadyRunning {
        /// Its pid.
        pid: u32,
        /// The cluster's folder.
        folder: PathBuf,
    },
    /// A file or folder could not be made or read.
    #[error("{what} {path:?}: {source}")]
    Files {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A program of Postgres could not be started.
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    /// `initdb` failed.
    #[error(
        "initdb failed ({exit}): {output}; see who owns the data folder, and free some space on its disk when that is full"
    )]
    Initdb {
        /// How it ended.
        exit: ChildExit,
        /// Its last words.
        output: String,
    },
    /// The server ended while it started.
    #[error("Postgres ended at its start ({exit}): {output}")]
    Ended {
        /// How.
        exit: ChildExit,
        /// Its last words.
        output: String,
    },
    /// The server lives but does not answer.
    #[error("Postgres did not answer within {} s ({last}); its log: {output}", START_DEADLINE.as_secs())]
    Silent {
        /// Why the last connection failed.
        last: String,
        /// Its last words.
        output: String,
    },
    /// The server answers, but did not make the database.
    #[error("the database could not be made: {0}")]
    Database(#[source] tokio_postgres::Error),
}

impl EmbeddedPostgres {
    /// Initialises `<data_dir>/postgres` where it is new, starts the server and returns when a connection was answered.
    /// The caller holds the data folder's lock: two servers on one folder are its business.
    ///
    /// # Errors
    /// Each says what to do; see [`EmbeddedPostgresError`].
    ///
    /// # Cancel safety
    /// Dropped in the middle, what was started is stopped; the next start goes on from there.
    pub async fn start(
        data_dir: &Path,
        shims: &Shims,
        bins: PostgresBinaries,
    ) -> Result<Self, EmbeddedPostgresError> {
        Self::start_with(data_dir, shims, bins, &[]).await
    }

    /// As [`EmbeddedPostgres::start`], with settings that override ours. For tests: durability is not optional.
    ///
    /// # Errors
    /// As [`EmbeddedPostgres::start`].
    pub async fn start_with(
        data_dir: &Path,
        shims: &Shims,
        bins: PostgresBinaries,
        settings: &[Setting<'_>],
    ) -> Result<Self, EmbeddedPostgresError> {
        let account = account()?;
        let data = DataFolder::prepare(data_dir, shims, &bins, account).await?;
        let socket_folder = runtime_folder::make(data_dir, account)?;
        let mut child = shims.spawn(server(&data, &bins, &socket_folder, account, settings)).await?;
        drop(child.take_stdin());
        child.copy_stderr_to(RotatedLog::new(data_dir.join("postgres.log")));
        let server = Self { child, socket_folder, major: bins.major };
        match server.make_ready().await {
            Ok(()) => {
                tracing::info!(major = server.major, pid = server.child.pid(), "embedded Postgres is up");
                Ok(server)
            }
            Err(error) => {
                server.stop().await;
                Err(error)
            }
        }
    }

    /// How to connect: over the private socket, as its superuser.
    pub fn config(&self) -> Config {
        self.config_of(ROLE)
    }

    /// The same for `psql` and others that take a URL.
    pub fn url(&self) -> String {
        let host = self.socket_folder.to_string_lossy();
        let host = host.bytes().map(|byte| match byte {
            b'/' | b'.' | b'-' | b'_' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => {
                char::from(byte).to_string()
            }
            byte => format!("%{byte:02X}"),
        });
        format!("postgresql:///{ROLE}?host={}&user={ROLE}", host.collect::<String>())
    }

    /// Major version of the server.
    pub fn major(&self) -> u32 {
        self.major
    }

    /// Pid of the postmaster.
    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// Resolves when the server has ended, for whatever reason.
    pub fn exited(&self) -> impl Future<Output = ChildExit> + Send + 'static {
        self.child.exited()
    }

    /// The server's last words.
    pub fn log_tail(&self) -> String {
        self.child.stderr_tail()
    }

    /// Shuts the server down (fast, then immediate) and returns when it is gone.
    pub async fn stop(self) {
        self.child.stop(StopForce::Terminate).await;
        // Left behind it does no harm: the next start uses it again.
        let _ = std::fs::remove_dir_all(&self.socket_folder);
    }

    fn config_of(&self, database: &str) -> Config {
        let mut config = Config::new();
        config.host_path(&self.socket_folder).user(ROLE).dbname(database).connect_timeout(CONNECT_DEADLINE);
        config
    }

    /// The database is made here and not after `initdb`, so that a kill between the two is repaired by the next start.
    async fn make_ready(&self) -> Result<(), EmbeddedPostgresError> {
        let client = tokio::select! {
            client = self.connect_when_up() => client?,
            exit = self.exited() => {
                return Err(EmbeddedPostgresError::Ended { exit, output: self.child.stderr_tail() });
            }
        };
        let sql = "SELECT 1 FROM pg_database WHERE datname = $1";
        let known = client.query_opt(sql, &[&ROLE]).await.map_err(EmbeddedPostgresError::Database)?;
        if known.is_none() {
            let made = client.batch_execute(&format!("CREATE DATABASE {ROLE}")).await;
            made.map_err(EmbeddedPostgresError::Database)?;
        }
        Ok(())
    }

    async fn connect_when_up(&self) -> Result<Client, EmbeddedPostgresError> {
        let give_up_at = Instant::now() + START_DEADLINE;
        loop {
            let last = match self.config_of("postgres").connect(NoTls).await {
                Ok((client, connection)) => {
                    // Ends when the client is dropped.
                    tokio::spawn(connection);
                    match client.simple_query("SELECT 1").await {
                        Ok(_) => return Ok(client),
                        Err(error) => error,
                    }
                }
                Err(error) => error,
            };
            if Instant::now() >= give_up_at {
                let output = self.child.stderr_tail();
                return Err(EmbeddedPostgresError::Silent { last: last.to_string(), output });
            }
            tokio::time::sleep(CONNECT_PAUSE).await;
        }
    }
}

/// Whom Postgres runs as: nobody else than us, unless we are root.
fn account() -> Result<Option<Account>, EmbeddedPostgresError> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    Account::unprivileged().map(Some).ok_or(EmbeddedPostgresError::NoAccount)
}

fn server(
    data: &DataFolder,
    bins: &PostgresBinaries,
    socket_folder: &Path,
    account: Option<Account>,
    settings: &[Setting<'_>],
) -> ChildSpec {
    let sockets = socket_folder.to_string_lossy();
    let ours = [
        ("listen_addresses", ""),
        ("unix_socket_directories", &*sockets),
        ("unix_socket_permissions", "0700"),
        ("max_connections", "100"),
        ("logging_collector", "off"),
        ("log_destination", "stderr"),
    ];
    let mut args: Vec<OsString> = vec!["-D".into(), data.path().into()];
    for (name, value) in ours.iter().chain(settings) {
        args.extend(["-c".into(), format!("{name}={value}").into()]);
    }
    program(bins, "postgres", args, data.path(), account)
}

/// A program of Postgres under the account, with nothing of our environment that it does not need.
fn program(
    bins: &PostgresBinaries,
    name: &str,
    args: Vec<OsString>,
    cwd: &Path,
    run_as: Option<Account>,
) -> ChildSpec {
    ChildSpec {
        name: name.to_owned(),
        program: bins.dir.join(name),
        args,
        env: Environment::allow_listed().set("LC_ALL", "C").remove("HOME"),
        cwd: cwd.to_owned(),
        stdin: StdinMode::Null,
        run_as,
        stop: StopPlan::PostgresFast,
        grace: STOP_GRACE,
        serves_leases: false,
        limits: Limits::default(),
    }
}
