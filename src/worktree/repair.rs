//! Puts a session's worktree right, whatever a kill, a person or an agent did to it. Loses nothing: what it cannot use it
//! moves aside, and says so.

use super::checkpoint;
use super::error::WorktreeError;
use super::files;
use super::layout::Site;
use super::lock::Lock;
use super::record::{Phase, Record};
use super::{hub, restore, stores, travel};

/// True when nothing needs repair, as far as a dozen small reads can tell.
pub(super) fn is_sound(site: &Site) -> bool {
    stores::is_repository(&site.stores.hub)
        && stores::borrows(&site.stores)
        && hub::is_sound(site)
        && files::read_line(&site.private.join("commondir")).is_some()
        && files::read_line(&site.private.join("HEAD")).is_some()
        && files::is_index(&site.private.join("index"))
}

/// Makes our git directory of a session: it has a HEAD and an index of its own and shares everything else with ours.
pub(super) fn make_private(site: &Site, commit: &str) -> Result<(), WorktreeError> {
    files::write(&site.private.join("commondir"), format!("{}\n", site.stores.ours.display()).as_bytes())?;
    files::write(&site.private.join("HEAD"), format!("{commit}\n").as_bytes())
}

/// Repairs, or finishes what was begun. Afterwards the worktree is as after `ensure`.
///
/// # Errors
/// [`WorktreeError::Git`] when ours itself is damaged: there is nothing to repair from.
pub(super) async fn repair(
    site: &Site,
    record: &Record,
    lock: &Lock,
    notices: &mut Vec<String>,
) -> Result<(), WorktreeError> {
    stores::mend_hub(&site.setup, &site.stores).await?;
    make_private(site, &record.base)?;
    let last = checkpoint::latest(site).await?;
    make_private(site, &last.commit)?;
    let begun = matches!(record.phase, Phase::Creating | Phase::Removed);
    if begun {
        // No agent was in it, or all of it was saved: leftovers of a kill.
        files::remove(&site.tree)?;
        hub::disconnect(site)?;
    } else if !files::is_dir(&site.tree) && std::fs::symlink_metadata(&site.tree).is_ok() {
        let kept = files::move_aside(&site.tree, &site.tree.with_extension("kept"))?;
        notices.push(format!("something had taken the worktree's place; it was moved to {}", kept.display()));
    }
    let filled = files::is_dir(&site.tree);
    files::make_dir(&site.tree)?;
    let new_head = hub::connect(site, &last.head, notices)?;
    match &record.phase {
        Phase::Restoring { to, from } if filled => {
            let saved = checkpoint::find(site, to).await?;
            notices.push(format!("an interrupted restore of {to} was finished"));
            travel::go_on(site, from, to, lock).await?;
            return restore::settle(site, &saved, lock, notices).await;
        }
        _ if filled => keep_files(site, &last, lock).await?,
        Phase::Creating => restore::fill(site, &last, lock).await?,
        Phase::Ready | Phase::Removed | Phase::Restoring { .. } => {
            restore::fill(site, &last, lock).await?;
            notices.push(format!("the worktree was gone; it was made again from checkpoint {}", last.commit));
        }
    }
    if new_head || !files::is_index(&site.admin().join("index")) {
        restore::put_index(site, &last, lock).await?;
    }
    Ok(())
}

/// The files are there: at most our index has to be read again.
async fn keep_files(site: &Site, last: &checkpoint::Saved, lock: &Lock) -> Result<(), WorktreeError> {
    let index = site.private.join("index");
    if files::is_index(&index) {
        return Ok(());
    }
    files::remove(&index)?;
    let git = site.git_on_tree("read the index").args(["read-tree", "--reset", &last.commit]);
    git.holding(lock).run().await?;
    restore::skip_submodules(site, lock).await
}
