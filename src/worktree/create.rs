//! Finds a session's worktree or makes it. Slow work only under locks, none at all when everything is in place.

use super::error::WorktreeError;
use super::files;
use super::layout::{Layout, Site};
use super::lock::Lock;
use super::project::{self, LocalRepository, Project};
use super::record::{Phase, Record};
use super::{ProjectSource, Worktree, repair, stores};
use crate::domain::ids::SessionId;
use std::fs;

/// The worktree, made, verified or repaired.
pub(super) async fn ensure(
    layout: &Layout,
    source: &ProjectSource,
    session: SessionId,
) -> Result<Worktree, WorktreeError> {
    let private = layout.private(session);
    if let Some(record) = Record::load(&private) {
        let site = layout.site(session, &record.project);
        if record.phase == Phase::Ready && repair::is_sound(&site) {
            return Ok(worktree(site, &record, Vec::new()));
        }
        let lock = site.lock().await?;
        return finish(site, lock, Vec::new()).await;
    }
    let found = project::find(&layout.setup(), source).await?;
    let site = layout.site(session, &found.key);
    files::make_dir(&site.stores.dir)?;
    let lock = site.lock().await?;
    let mut notices = found.notices.clone();
    if Record::load(&private).is_none() {
        begin(&site, &found, &lock, &mut notices).await?;
    }
    finish(site, lock, notices).await
}

/// Fixes the base and writes the record: from here on `repair` can do the rest, whenever it is called.
async fn begin(
    site: &Site,
    project: &Project,
    lock: &Lock,
    notices: &mut Vec<String>,
) -> Result<(), WorktreeError> {
    let stores_lock = Lock::take(&site.stores.lock).await?;
    let head = stores::bring_head(&site.setup, &site.stores, project, &stores_lock).await?;
    drop(stores_lock);
    let name = site.reference("base");
    let base = match files::read_line(&site.stores.ours.join(&name)) {
        Some(base) => base,
        None => {
            let git = super::git::Git::new(&site.setup, "name the base").dir(&site.stores.ours);
            git.args(["update-ref", &name, &head, ""]).holding(lock).run().await?;
            head
        }
    };
    repair::make_private(site, &base)?;
    if let Some(local) = &project.local
        && is_dirty(site, local, lock).await
    {
        notices.push(
            "uncommitted work in the project is not in the worktree: it begins at the last commit".into(),
        );
    }
    if fs::symlink_metadata(&site.tree).is_ok() && fs::remove_dir(&site.tree).is_err() {
        let kept = files::move_aside(&site.tree, &site.tree.with_extension("kept"))?;
        notices.push(format!("what lay in the worktree's place was moved to {}", kept.display()));
    }
    let project = project.key.clone();
    Record { project, base, branch: site.branch(), phase: Phase::Creating }.save(&site.private)
}

async fn finish(site: Site, lock: Lock, mut notices: Vec<String>) -> Result<Worktree, WorktreeError> {
    let record =
        Record::load(&site.private).ok_or_else(|| WorktreeError::Unknown(site.session.to_string()))?;
    repair::repair(&site, &record, &lock, &mut notices).await?;
    let record = record.in_phase(Phase::Ready);
    record.save(&site.private)?;
    Ok(worktree(site, &record, notices))
}

fn worktree(site: Site, record: &Record, notices: Vec<String>) -> Worktree {
    Worktree {
        session: site.session,
        path: site.tree.clone(),
        base_commit: record.base.clone(),
        branch: record.branch.clone(),
        notices,
        site,
    }
}

/// Whether tracked files of the project differ from its HEAD. Asked of a copy of its index with our git directory, so
/// that neither its index nor its configuration is touched; unknown counts as no.
async fn is_dirty(site: &Site, local: &LocalRepository, lock: &Lock) -> bool {
    let Some(top) = &local.top else { return false };
    let copy = site.private.join("project-index.new");
    if fs::copy(local.git_dir.join("index"), &copy).is_err() {
        return false;
    }
    let looked = site
        .git("look at the project")
        .tree(top)
        .index(&copy)
        .args(["status", "--porcelain", "-z", "--untracked-files=no", "--ignore-submodules=all"])
        .holding(lock)
        .outcome()
        .await;
    let _ = files::remove(&copy);
    looked.is_ok_and(|out| out.code == 0 && !out.stdout.is_empty())
}
