//! Why a node could not start or go on, by what a person does about it.

use super::data_folder::DataFolderError;
use super::postgres::DatabaseError;
use crate::http::TlsError;
use crate::store::StoreError;
use crate::store::migrate::MigrateError;
use crate::store::probe::NotificationsError;
use std::net::SocketAddr;

/// Why a node could not start or go on. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The data folder is in use, or cannot be written.
    #[error(transparent)]
    DataFolder(#[from] DataFolderError),
    /// No Postgres.
    #[error(transparent)]
    Postgres(#[from] DatabaseError),
    /// The schema.
    #[error(transparent)]
    Migrate(#[from] MigrateError),
    /// A statement at the start.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An agent's configuration.
    #[error("agent {agent}: {message}")]
    Agent {
        /// Which.
        agent: String,
        /// What to do.
        message: String,
    },
    /// LISTEN hears nothing.
    #[error("the database does not deliver notifications: {0}")]
    Deaf(String),
    /// The address is taken or forbidden.
    #[error("cannot listen on {addr}: {source}; choose another with --listen")]
    Listen {
        /// Which.
        addr: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// Certificate or key cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Nor will it.
    #[error(transparent)]
    Notifications(#[from] NotificationsError),
    /// The incarnation's lock is not to be had.
    #[error(
        "another agentpool runs with this node's id on the same database: was the data folder copied? Delete the file `node_id` \
         in the copy"
    )]
    SameNode,
    /// A defect of ours.
    #[error("a part of the node failed: {0}")]
    Defect(#[source] tokio::task::JoinError),
    /// A defect of ours.
    #[error("a part of the node ended by itself")]
    PartEnded,
    /// The database was away when the node ended.
    #[error(
        "the ends of {0} turns could not be written, since the database does not answer: nothing is lost, the next start of \
         this node takes them back"
    )]
    Unwritten(usize),
    /// Defects of ours, one after the other.
    #[error("too many turns met a defect of agentpool within a minute: see the log, and start it again")]
    Panics,
    /// No thread for the watchdog.
    #[error("the system refuses a thread: {0}")]
    Watchdog(#[source] std::io::Error),
    /// The embedded Postgres cannot be kept up.
    #[error("the embedded Postgres is lost and does not come back: {0}")]
    PostgresLost(String),
}
