//! The git worktrees that sessions work in: made, saved, compared, applied, removed.
//! Never deletes what is dirty unasked, and never runs git with a configuration that an agent can write.
//!
//! Two stores a project. *Ours* is a bare repository that alone holds bases and checkpoints. The *hub* is the repository
//! that agents see: their worktrees hang off it, and it borrows objects from ours (which we never collect), so a new base
//! costs it nothing. An agent owns the hub's configuration and hooks, so we treat the hub as files (`hub.rs`): the only git
//! that opens it is `upload-pack`, which is made for strangers' repositories, when an agent's commits are fetched into ours.
//! On a worktree our git uses a private git directory of the session (in ours), with an index of its own.
//!
//! ```text
//! <root>/worktrees/<session>        what the agent works in; its `.git` names the hub
//! <root>/git/config                 the only configuration that our git reads, besides that of ours
//! <root>/git/projects/<key>/        ours.git, hub.git, lock
//! <root>/git/sessions/<session>/    our git directory for it: HEAD (last checkpoint), index, record, kept indexes, lock
//! ```
//! In ours: `refs/agentpool/<session>/base` and `…/1`, `…/2`, … A checkpoint's first parent is the one before it.
//!
//! What the file system's uid can read and write, an agent of the same uid can too: this room defends against what git
//! would *execute* and against damage to the hub, not against an agent that goes looking for `<root>/git`.
//! git 2.31 or later; 2.40 to apply onto a branch that has moved.

mod apply;
mod changes;
mod checkpoint;
mod create;
mod error;
mod files;
mod git;
mod hold;
mod hub;
mod layout;
mod lock;
mod patches;
mod pick;
mod project;
mod prune;
mod record;
mod reject;
mod remove;
mod repair;
mod restore;
mod risk;
mod snapshot;
mod stores;
mod travel;

pub use apply::{Applied, Apply};
pub use error::WorktreeError;
pub use hold::Hold;
pub use reject::Rejected;
pub use remove::{RemoveMode, Removed};
pub use risk::Risk;

use crate::domain::change::{Chosen, FileChange};
use crate::domain::ids::SessionId;
use hold::Holds;
use layout::{Layout, Site};
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OnceCell;

/// Files larger than this (64 MiB) are left out of checkpoints and named in a notice; a restore leaves them alone.
pub const FILE_BYTES_MAX: u64 = 64 << 20;
/// New content of one checkpoint may be this large (4 GiB); beyond it the checkpoint is refused.
pub const CHECKPOINT_BYTES_MAX: u64 = 4 << 30;
/// Changed and new files that one checkpoint may hold; beyond it the checkpoint is refused.
pub const CHECKPOINT_FILES_MAX: usize = 200_000;
/// The label of a checkpoint that keeps what an interrupted turn left; such ones are kept 30 days whatever their number.
pub const INTERRUPTED: &str = "interrupted";

/// Where the code comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProjectSource {
    /// A repository on this machine: its top, a folder below it, a bare one, or a linked worktree.
    Path(PathBuf),
    /// A clone URL (`https`, `ssh`, `git`, `file`, or `user@host:path`).
    Url(String),
}

/// A session's worktree, as [`Worktrees::ensure`] found or made it.
#[derive(Clone, Debug)]
pub struct Worktree {
    /// Whose.
    pub session: SessionId,
    /// Where: absolute, canonical.
    pub path: PathBuf,
    /// The commit that the session began at.
    pub base_commit: String,
    /// The branch that the worktree was made with; an agent may have moved on to another.
    pub branch: String,
    /// What a reader should know: what was repaired, what of the project is not in it.
    pub notices: Vec<String>,
    site: Site,
}

/// A saved state of a worktree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Its commit, in ours.
    pub commit: String,
    /// The tree of that commit.
    pub tree: String,
    /// True when nothing has changed since the checkpoint before (tree, HEAD, branch and index), which is this one.
    pub reused: bool,
    /// What is not in it: nested repositories, huge files, commits that could not be fetched.
    pub notices: Vec<String>,
}

/// All worktrees of a node. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Worktrees {
    root: PathBuf,
    long_deadline: Duration,
    layout: Arc<OnceCell<Layout>>,
    holds: Holds,
}

impl Worktrees {
    /// Worktrees below `root`; nothing is touched before the first call.
    pub fn new(root: PathBuf) -> Self {
        Self::with_deadline(root, git::LONG_DEADLINE)
    }

    /// The same, where a git that may copy a whole history or cross a network is given up after `long_deadline` (10 minutes
    /// in [`Self::new`]).
    pub fn with_deadline(root: PathBuf, long_deadline: Duration) -> Self {
        Self { root, long_deadline, layout: Arc::new(OnceCell::new()), holds: Holds::default() }
    }

    /// Says whether sessions can be made on a project, before one is. A clone URL is only checked for its form.
    ///
    /// # Errors
    /// [`WorktreeError::ProjectUnusable`], saying what to do.
    pub async fn check_project(&self, project: &ProjectSource) -> Result<(), WorktreeError> {
        project::find(&self.layout().await?.setup(), project).await.map(drop)
    }

    /// Makes the session's worktree, or verifies it, or repairs it: meant to be called before every turn.
    /// A session keeps the project and the base that it began with, whatever `project` says later.
    /// Uncommitted work of the project is not in it (a notice says so).
    ///
    /// # Errors
    /// [`WorktreeError::ProjectUnusable`] when there is nothing to begin from; others when git or the disk fails.
    ///
    /// # Cancel safety
    /// May be dropped at any point; the next call repairs.
    pub async fn ensure(
        &self,
        project: &ProjectSource,
        session: SessionId,
    ) -> Result<Worktree, WorktreeError> {
        create::ensure(self.layout().await?, project, session).await
    }

    /// Saves tracked and untracked files, HEAD, branch and index. Ignored files, nested repositories and files above
    /// [`FILE_BYTES_MAX`] are not in it. `label` is one line for people; [`INTERRUPTED`] is kept longer.
    ///
    /// # Errors
    /// [`WorktreeError::TooLarge`] beyond the caps; others when git or the disk fails.
    ///
    /// # Cancel safety
    /// May be dropped at any point: then there is no checkpoint, or a whole one.
    pub async fn checkpoint(&self, wt: &Worktree, label: &str) -> Result<Checkpoint, WorktreeError> {
        checkpoint::checkpoint(&wt.site, label).await
    }

    /// Brings tracked and untracked files, HEAD, branch and index back to a checkpoint of the same session (or to its
    /// base), and ends a merge or rebase in progress. The present state is saved first. Ignored files stay.
    ///
    /// # Errors
    /// [`WorktreeError::NotOurs`] for any other commit; others when git or the disk fails.
    ///
    /// # Cancel safety
    /// May be dropped at any point; the next [`Self::ensure`] finishes it.
    pub async fn restore(&self, wt: &Worktree, commit: &str) -> Result<(), WorktreeError> {
        restore::restore(&wt.site, commit).await
    }

    /// The files that differ between two checkpoints (or the base), with their diffs. Two git processes, always.
    ///
    /// # Errors
    /// When one of them is no commit of ours, or git fails.
    pub async fn changes(
        &self,
        wt: &Worktree,
        from: &str,
        to: &str,
    ) -> Result<Vec<FileChange>, WorktreeError> {
        changes::changes(&wt.site, from, to).await
    }

    /// The tree of a session that has been taken over so far: the base's, with what was applied since.
    ///
    /// # Errors
    /// When the session was never ensured here, or git fails.
    pub async fn accepted(&self, session: SessionId) -> Result<String, WorktreeError> {
        pick::accepted(&self.layout().await?.known_site(session)?).await
    }

    /// The files that differ between two states of a session, without their diffs.
    ///
    /// # Errors
    /// When one of them is no commit of ours, or git fails.
    pub async fn changed(
        &self,
        session: SessionId,
        from: &str,
        to: &str,
    ) -> Result<Vec<FileChange>, WorktreeError> {
        changes::list(&self.layout().await?.known_site(session)?, from, to).await
    }

    /// What differs between two states of a session as one patch that `git apply` takes, binary files and all, in a file
    /// without a name: of every file, or of those chosen.
    ///
    /// # Errors
    /// [`WorktreeError::NoSuchChange`] for a file that does not differ; others when git or the disk fails.
    pub async fn patch(
        &self,
        session: SessionId,
        from: &str,
        to: &str,
        chosen: &Chosen,
    ) -> Result<File, WorktreeError> {
        let site = self.layout().await?.known_site(session)?;
        let paths = match chosen {
            Chosen::All => Vec::new(),
            Chosen::Files(_) => {
                let files = pick::choose(changes::list(&site, from, to).await?, chosen)?;
                files.iter().flat_map(FileChange::raw_paths).map(<[u8]>::to_vec).collect()
            }
        };
        changes::patch(&site, from, to, &paths).await
    }

    /// Puts the change, or the chosen files of it, on a new branch of the project, as one commit on its present HEAD. The
    /// project's checkout, index and current branch stay untouched.
    ///
    /// # Errors
    /// [`WorktreeError::Conflict`] when it does not go onto the project's HEAD: then nothing was touched.
    /// [`WorktreeError::BranchUnusable`] for a bad name or one that exists; [`WorktreeError::NoSuchChange`] for a chosen
    /// file that has not changed since it was last applied; [`WorktreeError::NothingToApply`].
    ///
    /// # Cancel safety
    /// May be dropped at any point: the branch exists whole, or not at all.
    pub async fn apply(
        &self,
        project: &ProjectSource,
        session: SessionId,
        wish: &Apply,
    ) -> Result<Applied, WorktreeError> {
        let site = self.layout().await?.known_site(session)?;
        apply::apply(&site, project, wish).await
    }

    /// Takes changed files back to what they were when they were last applied, or at the base. What was there is saved
    /// before, as a checkpoint. Whoever calls holds the worktree ([`Self::try_hold`]).
    ///
    /// # Errors
    /// [`WorktreeError::NoSuchChange`] for a chosen file that has not changed; [`WorktreeError::NothingToReject`]; others
    /// when git or the disk fails.
    ///
    /// # Cancel safety
    /// May be dropped at any point; the next [`Self::ensure`] finishes it.
    pub async fn reject(&self, wt: &Worktree, chosen: &Chosen) -> Result<Rejected, WorktreeError> {
        reject::reject(&wt.site, chosen).await
    }

    /// Waits until nobody else of this process is at work in the worktree, and holds it.
    ///
    /// # Cancel safety
    /// May be dropped at any point.
    pub async fn hold(&self, session: SessionId) -> Hold {
        self.holds.take(session).await
    }

    /// Holds the worktree, unless somebody is at work in it.
    pub fn try_hold(&self, session: SessionId) -> Option<Hold> {
        self.holds.try_take(session)
    }

    /// What a removal would take away that is nowhere else but in checkpoints.
    ///
    /// # Errors
    /// When git or the disk fails.
    pub async fn risk(&self, wt: &Worktree) -> Result<Risk, WorktreeError> {
        risk::risk(&wt.site).await
    }

    /// Removes the worktree, after a last checkpoint. The session's checkpoints stay: [`Self::ensure`] would make the
    /// worktree again from the last one.
    ///
    /// # Errors
    /// When the last checkpoint could not be taken (then nothing is removed), or the disk fails.
    ///
    /// # Cancel safety
    /// May be dropped at any point after which [`Self::ensure`] or another removal goes on.
    pub async fn remove(&self, wt: &Worktree, mode: RemoveMode) -> Result<Removed, WorktreeError> {
        remove::remove(&wt.site, mode).await
    }

    /// Drops the refs of old checkpoints: the base, the last `keep` and [`INTERRUPTED`] ones of the last 30 days stay.
    /// Says how many went. What was dropped can no longer be restored; its objects stay on disk as history of the later.
    ///
    /// # Errors
    /// When git or the disk fails.
    pub async fn prune(&self, wt: &Worktree, keep: usize) -> Result<usize, WorktreeError> {
        prune::prune(&wt.site, keep).await
    }

    async fn layout(&self) -> Result<&Layout, WorktreeError> {
        self.layout.get_or_try_init(|| async { Layout::prepare(&self.root, self.long_deadline) }).await
    }
}
