//! Takes changed files back to what they were when they were last taken over, and keeps what was there as a checkpoint.
//! Never touches the project, nor a file that was
//! not chosen, unless it stands where a chosen one has to be.

use super::checkpoint::{self, Index, Saved};
use super::error::WorktreeError;
use super::layout::Site;
use super::record::Record;
use super::{Checkpoint, changes, pick, restore};
use crate::domain::change::{Chosen, FileChange};

/// What a rejection came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// The state before it.
    pub kept: Checkpoint,
    /// The commit of the state after it.
    pub commit: String,
    /// The files that went back: those that were chosen, and those that stood where one of them has to be.
    pub files: Vec<FileChange>,
}

/// Rejects under the session's lock. A kill in the middle is finished by the next ensure.
pub(super) async fn reject(site: &Site, chosen: &Chosen) -> Result<Rejected, WorktreeError> {
    let lock = site.lock().await?;
    let record = Record::ready(&site.private, site.session)?;
    let (kept, _) = checkpoint::save(site, "before a rejection", &lock).await?;
    let accepted = pick::accepted(site).await?;
    let files = pick::choose(changes::list(site, &accepted, &kept.commit).await?, chosen)?;
    if files.is_empty() {
        return Err(WorktreeError::NothingToReject);
    }
    let tree = pick::pick(site, &kept.commit, &accepted, &files, &lock).await?;
    let present = checkpoint::latest(site).await?;
    // What was staged of the rejected files must not be committed by the agent's next `git commit`.
    let mut after = Saved { tree, number: present.number + 1, index: Index::Clean, ..present };
    after.commit = checkpoint::commit(site, &after, &kept.commit, None, "after a rejection", &lock).await?;
    restore::step(site, &record, &kept.commit, &after, &lock).await?;
    // Where a folder stood in the place of a file, more goes than was named.
    let files = changes::list(site, &after.commit, &kept.commit).await?;
    Ok(Rejected { kept, commit: after.commit, files })
}
