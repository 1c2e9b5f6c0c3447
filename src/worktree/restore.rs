//! Brings a worktree to a saved state, or fills an empty one. Never deletes what is ignored now or would be then, nor
//! what no checkpoint holds.

use super::checkpoint::{self, Index, Saved, index_file};
use super::error::WorktreeError;
use super::files;
use super::hub;
use super::layout::Site;
use super::lock::Lock;
use super::record::{Phase, Record};
use super::travel;
use std::fs;

/// Restores under the session's lock. A kill in the middle is finished by the next ensure.
pub(super) async fn restore(site: &Site, commit: &str) -> Result<(), WorktreeError> {
    let lock = site.lock().await?;
    let saved = checkpoint::find(site, commit).await?;
    let record = Record::ready(&site.private, site.session)?;
    // Most often it was saved a moment ago, and is so again for nothing.
    let (kept, _) = checkpoint::save(site, "before a restore", &lock).await?;
    step(site, &record, &kept.commit, &saved, &lock).await
}

/// From the state that was just saved to another, so that a kill in the middle is finished by the next ensure.
pub(super) async fn step(
    site: &Site,
    record: &Record,
    from: &str,
    to: &Saved,
    lock: &Lock,
) -> Result<(), WorktreeError> {
    let phase = Phase::Restoring { to: to.commit.clone(), from: from.to_owned() };
    record.in_phase(phase).save(&site.private)?;
    travel::go(site, from, &to.commit, lock).await?;
    let mut notices = Vec::new();
    settle(site, to, lock, &mut notices).await?;
    record.in_phase(Phase::Ready).save(&site.private)?;
    for notice in notices {
        tracing::info!(session = %site.session, %notice, "restored");
    }
    Ok(())
}

/// HEAD, branch and index, once the files are there.
pub(super) async fn settle(
    site: &Site,
    saved: &Saved,
    lock: &Lock,
    notices: &mut Vec<String>,
) -> Result<(), WorktreeError> {
    hub::end_operations(site)?;
    hub::set_head(site, &saved.head, notices)?;
    put_index(site, saved, lock).await
}

/// Fills a fresh worktree: nothing of anybody's is in the way.
pub(super) async fn fill(site: &Site, saved: &Saved, lock: &Lock) -> Result<(), WorktreeError> {
    let git = site.git_on_tree("fill the worktree").args(["read-tree", "--reset", "-u", &saved.commit]);
    git.holding(lock).long().run().await?;
    skip_submodules(site, lock).await
}

/// git opens a submodule that it believes present, and obeys its configuration (`core.fsmonitor` ran in `git add`).
/// Marked this way it never looks: a submodule stays, in every checkpoint, at the commit of the base.
pub(super) async fn skip_submodules(site: &Site, lock: &Lock) -> Result<(), WorktreeError> {
    let links = submodules(site, lock).await?;
    mark_submodules(site, lock, "--skip-worktree", None, &links).await
}

async fn submodules(site: &Site, lock: &Lock) -> Result<Vec<u8>, WorktreeError> {
    let listed = site.git("list submodules").args(["ls-files", "-z", "--stage"]).holding(lock).run().await?;
    let links = listed.stdout.split(|b| *b == 0).filter(|entry| entry.starts_with(b"160000 "));
    let paths = links.filter_map(|entry| entry.splitn(2, |b| *b == b'\t').nth(1));
    Ok(paths.flat_map(|path| path.iter().copied().chain([0])).collect())
}

async fn mark_submodules(
    site: &Site,
    lock: &Lock,
    flag: &str,
    index: Option<&std::path::Path>,
    links: &[u8],
) -> Result<(), WorktreeError> {
    if links.is_empty() {
        return Ok(());
    }
    let list = site.private.join("paths.new");
    files::write(&list, links)?;
    let mut git =
        site.git_on_tree("mark submodules").args(["update-index", flag, "-z", "--stdin"]).holding(lock);
    if let Some(index) = index {
        git = git.index(index);
    }
    git.stdin(fs::File::open(&list).map_err(WorktreeError::io(&list))?).run().await?;
    files::remove(&list)
}

/// Gives the agent the index that belongs to a state: the kept one, or that of its HEAD with the file times that ours
/// knows, so that the agent's first `git status` need not read every file.
pub(super) async fn put_index(site: &Site, saved: &Saved, lock: &Lock) -> Result<(), WorktreeError> {
    let place = site.admin().join("index");
    if let Index::Kept(number) = saved.index
        && let Some(bytes) = files::read(&index_file(site, number), u64::MAX)
    {
        return files::write(&place, &bytes);
    }
    let Some(commit) = &saved.head.commit else { return files::remove(&place) };
    let (from, new) = (site.private.join("index"), site.private.join("hub-index.new"));
    files::remove(&new)?;
    fs::copy(&from, &new).map_err(WorktreeError::io(&new))?;
    let git = site.git("read the index of HEAD").index(&new).args(["read-tree", "--reset", commit]);
    git.borrowing(&site.stores.hub.join("objects")).holding(lock).run().await?;
    let links = submodules(site, lock).await?;
    mark_submodules(site, lock, "--no-skip-worktree", Some(&new), &links).await?;
    files::remove(&place)?;
    fs::rename(&new, &place).map_err(WorktreeError::io(&place))
}
