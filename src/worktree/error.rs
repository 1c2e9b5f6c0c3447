//! What can go wrong with a worktree, by what the caller does about it.

use crate::domain::failure::FailureReason;
use std::io;
use std::path::Path;

/// Why a worktree could not be made, saved, compared, applied or removed.
#[derive(Debug, thiserror::Error)]
pub enum WorktreeError {
    /// The project cannot be worked on; a person must act.
    #[error("the project cannot be used: {0}")]
    ProjectUnusable(String),
    /// The change does not go onto the project's HEAD. Nothing was touched.
    #[error("the change conflicts with the project's HEAD in {}: nothing was touched", paths.join(", "))]
    Conflict {
        /// Files in conflict.
        paths: Vec<String>,
    },
    /// The commit is no checkpoint of this session (or was pruned).
    #[error("{commit} is no checkpoint of session {session}")]
    NotOurs {
        /// What was asked for.
        commit: String,
        /// Of which session.
        session: String,
    },
    /// The session has no worktree here yet.
    #[error("session {0} has no worktree on this node: ensure it first")]
    Unknown(String),
    /// The branch cannot be made.
    #[error("branch {branch:?} cannot be made: {why}")]
    BranchUnusable {
        /// Its name.
        branch: String,
        /// Why not.
        why: String,
    },
    /// The two states are the same, or the project has the change already.
    #[error("there is nothing to apply: the project has this state already")]
    NothingToApply,
    /// No file of the session has changed since it was last taken over.
    #[error("there is nothing to reject: no file has changed since it was last applied")]
    NothingToReject,
    /// Paths that were chosen are not among the changed files.
    #[error("{} has not changed: choose among the files that have", paths.join(", "))]
    NoSuchChange {
        /// Those that are not.
        paths: Vec<String>,
    },
    /// The patch is beyond its cap.
    #[error("the patch is longer than 1 GiB: ask for one file at a time")]
    PatchTooLong,
    /// The new content is beyond the caps of a checkpoint.
    #[error(
        "{files} changed files with {bytes} bytes are too much for a checkpoint: add what is built to .gitignore"
    )]
    TooLarge {
        /// Changed and new files.
        files: usize,
        /// Their sum.
        bytes: u64,
    },
    /// git failed.
    #[error("git could not {what}: {detail}")]
    Git {
        /// What it was to do.
        what: &'static str,
        /// The end of its standard error.
        detail: String,
    },
    /// git, or the wait for a lock, took longer than its deadline.
    #[error(
        "could not {what} within {secs} seconds: check that what it works on answers (a remote, a disk, a git that holds a lock)"
    )]
    Timeout {
        /// What was to be done.
        what: &'static str,
        /// The deadline.
        secs: u64,
    },
    /// The disk failed.
    #[error("could not use {path}")]
    Io {
        /// Which file.
        path: String,
        /// How.
        #[source]
        source: io::Error,
    },
}

impl WorktreeError {
    /// The reason that goes to the task's row.
    pub fn reason(&self) -> FailureReason {
        match self {
            Self::ProjectUnusable(_) => FailureReason::ProjectUnusable,
            Self::Conflict { .. }
            | Self::NotOurs { .. }
            | Self::Unknown(_)
            | Self::BranchUnusable { .. }
            | Self::NothingToApply
            | Self::NothingToReject
            | Self::NoSuchChange { .. }
            | Self::TooLarge { .. }
            | Self::PatchTooLong
            | Self::Git { .. }
            | Self::Timeout { .. }
            | Self::Io { .. } => FailureReason::WorktreeFailed,
        }
    }

    /// An I/O error with its path.
    pub(super) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        move |source| Self::Io { path: path.display().to_string(), source }
    }
}
