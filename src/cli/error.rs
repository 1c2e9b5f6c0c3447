//! What can go wrong in a command, and the exit code that says so. Decides nothing else.

use crate::app::{AppError, DataFolderError, DatabaseError, MigrateError, NotificationsError, StoreError};
use crate::config::ConfigError;
use crate::install::InstallError;
use crate::telemetry::TelemetryError;
use crate::wire::api::Problem;
use reqwest::StatusCode;
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
        /// Names the request in the service's log.
        request_id: String,
    },
    /// The service said no, and why.
    #[error("{}", .0.detail)]
    Refused(Box<Problem>),
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
    /// There is no such thing, as far as the service told.
    pub(super) fn not_found(detail: String) -> Self {
        Self::Refused(Box::new(problem(404, "not_found", detail)))
    }

    /// The same as programs read it: what the service answered, or one of the same shape with a code of its own and the HTTP
    /// status that is nearest to it.
    pub(super) fn problem(&self) -> Problem {
        let (status, code) = match self {
            Self::Refused(problem) => return Problem::clone(problem),
            Self::Unauthorized { request_id, .. } => {
                let problem = problem(401, "unauthorized", self.to_string());
                return Problem { request_id: request_id.clone(), ..problem };
            }
            Self::Usage(_) => (400, "usage"),
            Self::Unreachable { .. } => (503, "unreachable"),
            Self::StreamLost { .. } => (503, "stream_lost"),
            Self::Broken { .. } => (504, "no_answer"),
            Self::Foreign { .. } => (502, "foreign"),
            Self::File { .. } => (500, "unreadable_file"),
            Self::Install(_) => (500, "not_installed"),
            Self::Config(_) | Self::Telemetry(_) => (500, "configuration"),
            Self::App(_) => match self.exit() {
                Exit::Config => (500, "configuration"),
                Exit::Unavailable => (503, "unavailable"),
                Exit::NotFoundOrConflict => (409, "conflict"),
                Exit::Done | Exit::Fault | Exit::Usage | Exit::TaskFailed | Exit::Interrupted => {
                    (500, "fault")
                }
            },
            Self::Scratch(_) | Self::Listen { .. } | Self::Runtime(_) | Self::Output(_) => (500, "fault"),
        };
        problem(status, code, self.to_string())
    }

    /// The code with which the program ends.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Config(_) | Self::Telemetry(_) => Exit::Config,
            Self::App(error) => of_the_app(error),
            Self::Usage(_) => Exit::Usage,
            Self::Unreachable { .. } | Self::Broken { .. } | Self::StreamLost { .. } => Exit::Unavailable,
            Self::Refused(problem) => match problem.status {
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

/// A problem of this program's own.
pub(super) fn problem(status: u16, code: &str, detail: String) -> Problem {
    let title = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
    Problem {
        kind: format!("urn:agentpool:problem:{code}"),
        title: title.unwrap_or_default().to_owned(),
        status,
        code: code.to_owned(),
        detail,
        ..Problem::default()
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
