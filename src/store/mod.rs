//! Postgres: connections, migrations, the listener, and one function a file of `sql/`. Never decides anything about tasks;
//! what comes back are rows.

pub mod agents;
pub mod changes;
pub mod checkpoints;
pub mod connect;
pub mod enqueue;
pub mod events;
pub mod health;
pub mod leases;
pub mod listener;
pub mod migrate;
pub mod nodes;
pub mod permission_rules;
pub mod permissions;
pub mod probe;
pub mod queue;
pub mod retention;
pub mod sessions;
mod silence;
pub mod tasks;
pub mod tokens;
pub mod turns;
pub mod usage;
pub mod waiting;

use deadpool_postgres::{Object, Pool, PoolError, TimeoutType};
use std::sync::Arc;
use tokio::sync::broadcast;
use tokio_postgres::error::SqlState;
use tokio_postgres::tls::NoTlsError;

/// The text of `sql/<name>.sql`.
macro_rules! sql {
    ($name:literal) => {
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/sql/", $name, ".sql"))
    };
}
pub(crate) use sql;

/// All ways to the database. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    /// Direct connections for executors and the API's writes.
    engine: Pool,
    /// The dispatcher's own connection.
    tick: Pool,
    /// Renewals have their own connection: a full pool must cost no lease.
    renew: Pool,
    /// Reads of the API; may go through a pooler, so only unnamed statements run here.
    reads: Pool,
    /// How the listener connects.
    direct: tokio_postgres::Config,
    /// What this process appends to the event log.
    appended: broadcast::Sender<Arc<[events::EventRow]>>,
}

/// Why the database did not do as told.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No connection, or it broke; try again later.
    #[error("the database cannot be reached ({}): check that it runs and takes connections", causes(.0.as_ref()))]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Every connection of a pool was in use for longer than a caller waits; try again later.
    #[error("the service's connections to the database are all in use")]
    Exhausted,
    /// What answers is a connection pooler that takes no settings.
    #[error(
        "the URL leads to a connection pooler, which the engine cannot work through ({}): name the way past it with \
         --database-direct-url", causes(.0)
    )]
    Pooler(#[source] tokio_postgres::Error),
    /// The server is there and refuses the login, or has no such database; or the URL demands TLS.
    #[error(
        "the database does not let us in ({}): check user, password and database in its URL, and that it demands no TLS, \
         which is not offered yet", causes(.0)
    )]
    NotAdmitted(#[source] tokio_postgres::Error),
    /// The role may not do this.
    #[error(
        "the database does not let our role do its work ({}): GRANT CREATE ON DATABASE to it, or use a database that it owns",
        causes(.0)
    )]
    NotAllowed(#[source] tokio_postgres::Error),
    /// A constraint refused the row: the caller's input is wrong.
    #[error("{message}")]
    Refused {
        /// In words.
        message: String,
        /// Which constraint, if one was named.
        constraint: Option<String>,
    },
    /// A value that Postgres cannot hold (NUL, too large …): this row alone is at fault.
    #[error("the database cannot hold a value: {}", causes(.0))]
    BadValue(#[source] tokio_postgres::Error),
    /// A deadlock, a serialisation failure or a lock that was not free in time; try again.
    #[error("the database was too busy: {}", causes(.0))]
    Busy(#[source] tokio_postgres::Error),
    /// The database cannot be written (a standby, or set read-only).
    #[error("the database is read-only: point the service at the primary")]
    ReadOnly(#[source] tokio_postgres::Error),
    /// Anything else: a defect of ours or a schema that is not ours.
    #[error("the database refused a statement: {}", causes(.0))]
    Statement(#[source] tokio_postgres::Error),
}

/// An error with what lies behind it: the driver's own words are "error connecting to server".
fn causes(error: &(dyn std::error::Error + Send + Sync)) -> String {
    let first: &dyn std::error::Error = error;
    let chain = std::iter::successors(Some(first), |error| error.source());
    chain.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

impl StoreError {
    /// May the same call work in a moment?
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Exhausted | Self::Busy(_) | Self::ReadOnly(_))
    }
}

impl From<tokio_postgres::Error> for StoreError {
    fn from(error: tokio_postgres::Error) -> Self {
        let Some(db) = error.as_db_error() else {
            if std::error::Error::source(&error).is_some_and(|cause| cause.is::<NoTlsError>()) {
                return Self::NotAdmitted(error);
            }
            return if error.is_closed()
                || error.code().is_none() && std::error::Error::source(&error).is_some()
            {
                Self::Unavailable(Box::new(error))
            } else {
                Self::Statement(error)
            };
        };
        let code = db.code().clone();
        let class = &code.code()[..2];
        match () {
            () if class == "23" || code == SqlState::RAISE_EXCEPTION => Self::Refused {
                message: db.message().to_owned(),
                constraint: db.constraint().map(str::to_owned),
            },
            () if class == "22" || class == "54" => Self::BadValue(error),
            () if [
                SqlState::T_R_DEADLOCK_DETECTED,
                SqlState::T_R_SERIALIZATION_FAILURE,
                SqlState::LOCK_NOT_AVAILABLE,
                SqlState::QUERY_CANCELED,
            ]
            .contains(&code) =>
            {
                Self::Busy(error)
            }
            () if code == SqlState::INSUFFICIENT_PRIVILEGE => Self::NotAllowed(error),
            () if code == SqlState::READ_ONLY_SQL_TRANSACTION => Self::ReadOnly(error),
            // PgBouncer's words for the `options` that carry our time limits.
            () if class == "08" && db.message().contains("startup parameter") => Self::Pooler(error),
            () if ["28", "3D"].contains(&class) => Self::NotAdmitted(error),
            () if ["08", "57", "53", "58"].contains(&class) => Self::Unavailable(Box::new(error)),
            () => Self::Statement(error),
        }
    }
}

impl From<PoolError> for StoreError {
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::Timeout(TimeoutType::Wait) => Self::Exhausted,
            PoolError::Backend(error) => match Self::from(error) {
                Self::Statement(error) => Self::Unavailable(Box::new(error)),
                other => other,
            },
            other => Self::Unavailable(Box::new(other)),
        }
    }
}

impl Store {
    /// Makes the pools; connects nothing yet. `direct` is the unpooled way, `reads` what the API's reads may use. When both
    /// are the same, reads get our time limits too; a pooler between may refuse them and has its own.
    pub fn new(direct: tokio_postgres::Config, reads: tokio_postgres::Config) -> Self {
        let reads = if reads == direct { connect::harden(reads) } else { reads };
        let direct = connect::harden(direct);
        Self {
            inner: Arc::new(Inner {
                engine: connect::pool(direct.clone(), 8, connect::SILENCE),
                tick: connect::pool(direct.clone(), 1, connect::SILENCE),
                renew: connect::pool(direct.clone(), 1, connect::RENEW_SILENCE),
                reads: connect::pool(reads, 8, connect::SILENCE),
                direct,
                // 256 batches: a reader that lags asks the database.
                appended: broadcast::channel(256).0,
            }),
        }
    }

    pub(crate) async fn engine(&self) -> Result<Object, StoreError> {
        Ok(self.inner.engine.get().await?)
    }

    pub(crate) async fn tick_connection(&self) -> Result<Object, StoreError> {
        Ok(self.inner.tick.get().await?)
    }

    pub(crate) async fn renew_connection(&self) -> Result<Object, StoreError> {
        Ok(self.inner.renew.get().await?)
    }

    pub(crate) async fn reads(&self) -> Result<Object, StoreError> {
        Ok(self.inner.reads.get().await?)
    }

    pub(crate) fn appended_here(&self) -> &broadcast::Sender<Arc<[events::EventRow]>> {
        &self.inner.appended
    }

    pub(crate) fn direct(&self) -> &tokio_postgres::Config {
        &self.inner.direct
    }

    /// Closes every pooled connection; a later call fails as unavailable.
    pub fn close(&self) {
        for pool in [&self.inner.engine, &self.inner.tick, &self.inner.renew, &self.inner.reads] {
            pool.close();
        }
    }
}

/// Runs `call` again, at most five times, when the database was merely busy (40P01, 40001, 55P03).
pub(crate) async fn when_busy_again<T, F>(mut call: impl FnMut() -> F) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    let mut tries = 0;
    loop {
        match call().await {
            Err(StoreError::Busy(_)) if tries < 5 => {
                tries += 1;
                tokio::time::sleep(std::time::Duration::from_millis(rand::random_range(5..40) * tries)).await;
            }
            outcome => return outcome,
        }
    }
}
