//! What a removal would take from the agents' side. Only looks.

use super::error::WorktreeError;
use super::files;
use super::hub::Head;
use super::layout::Site;
use super::lock::Lock;
use super::stores::PROJECT_HEAD;
use super::{checkpoint, hub, pick, snapshot};

/// What is nowhere but in the worktree, the hub and our checkpoints.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Risk {
    /// Files that differ from the agent's HEAD, new ones included; and what no checkpoint holds: nested repositories
    /// (with a slash at the end) and huge files. Empty but for the latter when exactly this state was applied.
    pub dirty: Vec<String>,
    /// Commits on the agent's HEAD or branch that the project did not have when it was last read.
    pub unmerged_commits: u32,
    /// True when the files differ from the base and from what was last applied.
    pub unapplied: bool,
}

impl Risk {
    /// True when a removal would take nothing away.
    pub fn is_none(&self) -> bool {
        self.dirty.is_empty() && self.unmerged_commits == 0
    }
}

/// The present risk.
pub(super) async fn risk(site: &Site) -> Result<Risk, WorktreeError> {
    let lock = site.lock().await?;
    let last = checkpoint::latest(site).await?;
    let seen = snapshot::take(site, &lock).await?;
    let head = hub::head(site).unwrap_or(last.head);
    weigh(site, &seen.tree.unwrap_or(last.tree), seen.left_out, &head, &lock).await
}

/// The risk of a state that was just saved.
pub(super) async fn weigh(
    site: &Site,
    tree: &str,
    left_out: Vec<String>,
    head: &Head,
    lock: &Lock,
) -> Result<Risk, WorktreeError> {
    if pick::accepted_states(site).last().is_some_and(|applied| applied == tree) {
        return Ok(Risk { dirty: left_out, ..Risk::default() });
    }
    let base = site.reference("base");
    let base_tree =
        site.git("read the base").args(["rev-parse", &format!("{base}^{{tree}}")]).run().await?.text();
    let unapplied = tree != base_tree;
    let mut dirty = differing(site, head, tree, lock).await?;
    dirty.extend(left_out);
    let unmerged_commits = unmerged(site, head, lock).await?;
    Ok(Risk { dirty, unmerged_commits, unapplied })
}

async fn differing(site: &Site, head: &Head, tree: &str, lock: &Lock) -> Result<Vec<String>, WorktreeError> {
    let from = head.commit.clone().unwrap_or_else(|| site.reference("base"));
    let listed = on_both(site, "compare with HEAD")
        .args(["diff-tree", "-r", "-z", "--name-only", "--no-renames", &from, tree, "--"])
        .holding(lock)
        .run()
        .await?;
    let paths = listed.stdout.split(|b| *b == 0).filter(|path| !path.is_empty());
    Ok(paths.map(crate::domain::text::clean_bytes).collect())
}

async fn unmerged(site: &Site, head: &Head, lock: &Lock) -> Result<u32, WorktreeError> {
    let own = hub::resolve(&site.stores.hub, &format!("refs/heads/{}", site.branch()));
    let tips: Vec<String> = head.commit.iter().cloned().chain(own).collect();
    let mut not = vec![format!("^{}", site.reference("base"))];
    if files::read_line(&site.stores.ours.join(PROJECT_HEAD)).is_some() {
        not.push(format!("^{PROJECT_HEAD}"));
    }
    let git = on_both(site, "count commits").args(["rev-list", "--count"]).args(tips).args(not).args(["--"]);
    Ok(git.holding(lock).run().await?.text().parse().unwrap_or(u32::MAX))
}

/// Ours, and the agents' objects: a commit may not have been fetched yet.
fn on_both(site: &Site, what: &'static str) -> super::git::Git {
    site.git(what).borrowing(&site.stores.hub.join("objects"))
}
