//! What the API needs of the process that has a session's worktree: to read what changed in it, apply it, take it back.

use super::node::LocalError;
use crate::domain::change::{Chosen, FileChange};
use crate::store::checkpoints::CheckpointRow;
use crate::store::sessions::SessionDetail;
use crate::wire::api::AppliedView;
use async_trait::async_trait;
use std::fs::File;
use uuid::Uuid;

/// From which state on a session's changes are meant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Since {
    /// Where the session began.
    #[default]
    Base,
    /// What has been applied so far, file by file: what is left to be applied or rejected.
    Applied,
}

/// Two states of a worktree, to be compared.
#[derive(Clone, Debug)]
pub enum States {
    /// The session's newest, and where it is counted from.
    Session(Since),
    /// Before and after a task: their commits.
    Task(String, String),
}

/// What a branch is to be.
#[derive(Clone, Debug)]
pub struct NewBranch {
    /// Its name.
    pub name: String,
    /// The commit's message.
    pub message: String,
    /// Which files.
    pub chosen: Chosen,
}

/// The worktrees of this node, as far as people review them. The session's home is this node.
#[async_trait]
pub trait LocalReview: Send + Sync + 'static {
    /// The files that differ, without their diffs; none before the first turn.
    ///
    /// # Errors
    /// When git or the disk fails.
    async fn files(&self, session: &SessionDetail, since: Since) -> Result<Vec<FileChange>, LocalError>;
    /// What differs as one patch that `git apply` takes, in a file without a name.
    ///
    /// # Errors
    /// [`LocalError::Files`] for a chosen file that does not differ; others when git or the disk fails.
    async fn patch(
        &self,
        session: &SessionDetail,
        states: States,
        chosen: Chosen,
    ) -> Result<File, LocalError>;
    /// Brings a session's newest checkpoint, or chosen files of it, into the user's repository as a branch.
    ///
    /// # Errors
    /// [`LocalError::Conflict`] and [`LocalError::Files`]: nothing was touched.
    async fn apply(&self, session: &SessionDetail, branch: NewBranch) -> Result<AppliedView, LocalError>;
    /// Takes changed files back to what was last applied, or to the base. Returns their paths and how many changes that rejects.
    ///
    /// # Errors
    /// [`LocalError::Conflict`] while a turn works in the worktree, and [`LocalError::Files`]: nothing was touched.
    async fn reject(&self, session: &SessionDetail, chosen: Chosen)
    -> Result<(Vec<String>, u64), LocalError>;
    /// Takes the worktree back to a checkpoint of the session.
    ///
    /// # Errors
    /// [`LocalError::Conflict`] while a turn works in the worktree, or when the checkpoint was dropped.
    async fn restore(&self, session: &SessionDetail, to: &CheckpointRow) -> Result<(), LocalError>;
}

/// The session, if its worktree is here.
///
/// # Errors
/// [`LocalError::Conflict`] with the words for who asks.
pub(super) fn is_home(session: &SessionDetail, node: Uuid) -> Result<(), LocalError> {
    match session.home {
        Some(home) if home != node => Err(LocalError::Conflict(format!(
            "the session's worktree is on another node ({home}): ask there"
        ))),
        _ => Ok(()),
    }
}
