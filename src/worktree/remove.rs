//! Takes a worktree away, after a last checkpoint. Checkpoints, base and record stay.

use super::error::WorktreeError;
use super::layout::Site;
use super::record::{Phase, Record};
use super::{Checkpoint, Risk, checkpoint, files, hub, risk};

/// How much may be taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemoveMode {
    /// Only a worktree without [`Risk`].
    IfClean,
    /// Whatever is in it. What a checkpoint leaves out (ignored files, nested repositories, huge files) is lost.
    Force,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removed {
    /// It is gone; this is its last checkpoint.
    Gone {
        /// The last state.
        checkpoint: Checkpoint,
    },
    /// It was not there.
    NotThere,
    /// It stays, for what would be lost.
    Kept {
        /// What that is.
        risk: Risk,
    },
}

/// Removes under the session's lock.
pub(super) async fn remove(site: &Site, mode: RemoveMode) -> Result<Removed, WorktreeError> {
    let lock = site.lock().await?;
    let record = Record::load(&site.private).filter(|record| record.phase != Phase::Removed);
    let Some(record) = record.filter(|_| files::is_dir(&site.tree)) else {
        take_away(site)?;
        return Ok(Removed::NotThere);
    };
    let (checkpoint, left_out) = checkpoint::save(site, "final", &lock).await?;
    if mode == RemoveMode::IfClean {
        let last = checkpoint::latest(site).await?;
        let risk = risk::weigh(site, &checkpoint.tree, left_out, &last.head, &lock).await?;
        if !risk.is_none() {
            return Ok(Removed::Kept { risk });
        }
    }
    record.in_phase(Phase::Removed).save(&site.private)?;
    take_away(site)?;
    Ok(Removed::Gone { checkpoint })
}

fn take_away(site: &Site) -> Result<(), WorktreeError> {
    files::remove(&site.tree)?;
    files::remove(&site.private.join("index"))?;
    // The branch goes from loose or packed refs, which all sessions share.
    hub::disconnect(site)
}
