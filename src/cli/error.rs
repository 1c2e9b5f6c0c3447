//! What can go wrong in a command, and the exit code that says so. Decides nothing else.

use crate::app::{AppError, DataFolderError, DatabaseError, MigrateError, NotificationsError, StoreError};
use crate::config::ConfigError;
use crate::install::InstallError;
use crate::telemetry::TelemetryError;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

/// How the program ends. The numbers above 64 are those of sysexits.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// All was done.
    Done,
    /// Something broke.
    Fault,
    /// The command was not understood.
    Usage,
    /// The task that was followed failed or was cancelled.
    TaskFailed,
    /// There is no such thing, or it does not stand as it must.
    NotFoundOrConflict,
    /// No service answers, or its database is away.
    Unavailable,
    /// The configuration cannot be used.
    Config,
    /// Somebody pressed ^C while following; what was followed goes on. The shells' 128 + SIGINT.
    Interrupted,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0,
            Exit::Fault => 1,
            Exit::Usage => 2,
            Exit::TaskFailed => 3,
            Exit::NotFoundOrConflict => 4,
            Exit::Unavailable => 69,
            Exit::Config => 78,
            Exit::Interrupted => 130,
        })
    }
}

/// Why a command did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Its log filter cannot.
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
    /// The arguments do not go together, or name what is not there.
    #[error("{0}")]
    Usage(String),
    /// The demo's scratch folder.
    #[error("the scratch folder could not be made: {0}")]
    Scratch(#[source] io::Error),
    /// Nobody listens.
    #[error("no agentpool answers at {url}: start one with `agentpool serve`")]
    Unreachable {
        /// Where it was looked for.
        url: String,
    },
    /// The service was there and is gone, or does not get to an answer.
    #[error("{url} did not answer: {problem}")]
    Broken {
        /// Where.
        url: String,
        /// What happened.
        problem: String,
    },
    /// A stream broke off and could not be had again.
    #[error("the connection was lost and did not come back: go on with `{again}`")]
    StreamLost {
        /// The command that goes on.
        again: String,
    },
    /// The token is missing or wrong.
    #[error(
        "the service at {url} does not accept {token}: run this as the user who started it, or give its token with --token-file or AGENTPOOL_TOKEN"
    )]
    Unauthorized {
        /// Where.
        url: String,
        /// What was sent, in words.
        token: String,
    },
    /// The service said no, and why.
    #[error("{detail}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// The service's words.
        detail: String,
    },
    /// What answered does not speak our language.
    #[error("what answers at {url} is no agentpool of this version: {problem}")]
    Foreign {
        /// Where.
        url: String,
        /// What was not understood.
        problem: String,
    },
    /// A file cannot be read.
    #[error("cannot read {path:?}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Nothing was installed.
    #[error(transparent)]
    Install(#[from] InstallError),
    /// The service could not start or go on.
    #[error(transparent)]
    App(#[from] AppError),
    /// The scripted model cannot listen.
    #[error("cannot listen on port {port}: {source}; choose another with --port")]
    Listen {
        /// Which.
        port: u16,
        /// What the system said.
        source: io::Error,
    },
    /// There is no runtime to work in, or no way to hear signals.
    #[error("the system refuses threads or signals: {0}")]
    Runtime(io::Error),
    /// The output cannot be written.
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
}

impl CliError {
    /// The code with which the program ends.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Config(_) | Self::Telemetry(_) => Exit::Config,
            Self::App(error) => of_the_app(error),
            Self::Usage(_) => Exit::Usage,
            Self::Unreachable { .. } | Self::Broken { .. } | Self::StreamLost { .. } => Exit::Unavailable,
            Self::Refused { status, .. } => match status {
                400 | 422 => Exit::Usage,
                404 | 409 => Exit::NotFoundOrConflict,
                503 => Exit::Unavailable,
                _ => Exit::Fault,
            },
            Self::Scratch(_)
            | Self::Unauthorized { .. }
            | Self::Foreign { .. }
            | Self::File { .. }
            | Self::Install(_)
            | Self::Listen { .. }
            | Self::Runtime(_)
            | Self::Output(_) => Exit::Fault,
        }
    }
}

/// By what the operator has to do: change the configuration, wait, or look.
fn of_the_app(error: &AppError) -> Exit {
    match error {
        AppError::DataFolder(DataFolderError::InUse(_)) | AppError::SameNode => Exit::NotFoundOrConflict,
        AppError::Agent { .. }
        | AppError::Tls(_)
        | AppError::Deaf(_)
        | AppError::Notifications(NotificationsError::Lost)
        | AppError::Notifications(NotificationsError::Store(
            StoreError::Pooler(_) | StoreError::NotAdmitted(_),
        ))
        | AppError::Migrate(MigrateError::Store(StoreError::NotAllowed(_))) => Exit::Config,
        AppError::Postgres(DatabaseError::Url { .. }) | AppError::Migrate(MigrateError::TooOld(_)) => {
            Exit::Config
        }
        AppError::Unwritten(_) => Exit::Unavailable,
        AppError::Store(error)
        | AppError::Migrate(MigrateError::Store(error))
        | AppError::Notifications(NotificationsError::Store(error))
            if error.is_transient() =>
        {
            Exit::Unavailable
        }
        AppError::DataFolder(_)
        | AppError::Postgres(_)
        | AppError::Migrate(_)
        | AppError::Store(_)
        | AppError::Notifications(_)
        | AppError::Listen { .. }
        | AppError::Defect(_)
        | AppError::PartEnded
        | AppError::Panics
        | AppError::Watchdog(_)
        | AppError::PostgresLost(_) => Exit::Fault,
    }
}
