//! Puts a session's change on a new branch of the project. Merges in ours; the project sees objects and one new ref.
//! Never touches its checkout, its index, its HEAD or a branch that exists.

use super::error::WorktreeError;
use super::files;
use super::git::Git;
use super::hub::is_object_id;
use super::layout::Site;
use super::lock::Lock;
use super::project::{self, LocalRepository, Project};
use super::{ProjectSource, changes, checkpoint, pick, stores};
use crate::domain::change::{Chosen, FileChange};
use std::fs::{self, File};
use std::path::Path;

/// A branch that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// Its name.
    pub branch: String,
    /// Its commit.
    pub commit: String,
    /// The commit of the project that it stands on.
    pub onto: String,
    /// True when the project's HEAD was no longer the base, so that a three-way merge was needed.
    pub merged: bool,
    /// The files that were taken over with it, without their diffs: those that had changed since they were last.
    pub files: Vec<FileChange>,
}

/// What is to be applied, and how.
#[derive(Clone, Debug)]
pub struct Apply {
    /// The commit that the session began at.
    pub from_base: String,
    /// The checkpoint that has the change.
    pub to: String,
    /// The branch to make.
    pub branch: String,
    /// The commit's message.
    pub message: String,
    /// Which files.
    pub chosen: Chosen,
}

/// Applies what lies between base and checkpoint.
pub(super) async fn apply(
    site: &Site,
    source: &ProjectSource,
    wish: &Apply,
) -> Result<Applied, WorktreeError> {
    check_branch(&wish.branch)?;
    if !is_object_id(&wish.from_base) {
        return Err(not_ours(site, &wish.from_base));
    }
    let lock = site.lock().await?;
    checkpoint::find(site, &wish.to).await?;
    let project = project::find(&site.setup, source).await?;
    if project.key != site.stores.key() {
        return Err(WorktreeError::ProjectUnusable(
            "this is not the project that the session began with".into(),
        ));
    }
    let accepted = pick::accepted(site).await?;
    let chosen = pick::choose(changes::list(site, &accepted, &wish.to).await?, &wish.chosen)?;
    let onto = {
        let stores_lock = Lock::take(&site.stores.lock).await?;
        stores::bring_head(&site.setup, &site.stores, &project, &stores_lock).await?
    };
    let merged = onto != wish.from_base;
    let taken = with_chosen(site, &accepted, wish, &chosen, &lock).await?;
    let tree = if merged {
        onto_head(site, wish, &chosen, &onto, &lock).await?
    } else {
        with_chosen(site, &tree_of(site, &wish.from_base).await?, wish, &chosen, &lock).await?
    };
    if tree == tree_of(site, &onto).await? {
        return Err(WorktreeError::NothingToApply);
    }
    let git = site.git("write the commit").args(["commit-tree", &tree, "-p", &onto, "-m", &wish.message]);
    let commit = git.holding(&lock).run().await?.text();
    match &project.local {
        Some(local) => give(site, local, &onto, &commit, &wish.branch).await?,
        None => push(site, &project, &commit, &wish.branch, &lock).await?,
    }
    pick::accept(site, &taken)?;
    // Where a folder stands in the place of a file, more was taken over than was named.
    let files = changes::list(site, &accepted, &taken).await?;
    Ok(Applied { branch: wish.branch.clone(), commit, onto, merged, files })
}

/// A state with what is to be applied.
async fn with_chosen(
    site: &Site,
    state: &str,
    wish: &Apply,
    chosen: &[FileChange],
    lock: &Lock,
) -> Result<String, WorktreeError> {
    match wish.chosen {
        Chosen::All => tree_of(site, &wish.to).await,
        Chosen::Files(_) => pick::pick(site, state, &wish.to, chosen, lock).await,
    }
}

/// The tree of what is to be applied on the project's HEAD. From the base on; where that is a conflict, the project may have what was
/// applied before: then from the first such state on that goes.
async fn onto_head(
    site: &Site,
    wish: &Apply,
    chosen: &[FileChange],
    onto: &str,
    lock: &Lock,
) -> Result<String, WorktreeError> {
    let mut first = None;
    let base = tree_of(site, &wish.from_base).await?;
    for state in std::iter::once(base).chain(pick::accepted_states(site)) {
        let theirs = with_chosen(site, &state, wish, chosen, lock).await?;
        let (from, to) = (commit_of(site, &state, lock).await?, commit_of(site, &theirs, lock).await?);
        match merge(site, &from, onto, &to, lock).await {
            Err(conflict @ WorktreeError::Conflict { .. }) => first = first.or(Some(conflict)),
            merged => return merged,
        }
    }
    Err(first.expect("the base was tried"))
}

/// Three-way, in ours, without files: the change from `base` to `to` on top of `onto`.
async fn merge(site: &Site, base: &str, onto: &str, to: &str, lock: &Lock) -> Result<String, WorktreeError> {
    let merged = site
        .git("merge onto the project's HEAD")
        .args([
            "merge-tree",
            "--write-tree",
            "-z",
            "--name-only",
            "--no-messages",
            "--merge-base",
            base,
            onto,
            to,
        ])
        .holding(lock)
        .outcome()
        .await?;
    let mut fields = merged.stdout.split(|b| *b == 0).map(crate::domain::text::clean_bytes);
    let tree = fields.next().unwrap_or_default();
    match merged.code {
        0 => Ok(tree),
        1 => Err(WorktreeError::Conflict { paths: fields.filter(|path| !path.is_empty()).collect() }),
        _ => Err(WorktreeError::Git { what: "merge onto the project's HEAD", detail: merged.detail }),
    }
}

/// A tree as a commit of its own, for a merge.
async fn commit_of(site: &Site, tree: &str, lock: &Lock) -> Result<String, WorktreeError> {
    let git = site.git("write a state").args(["commit-tree", tree, "-m", "state"]);
    Ok(git.holding(lock).run().await?.text())
}

async fn tree_of(site: &Site, commit: &str) -> Result<String, WorktreeError> {
    Ok(site.git("read a tree").args(["rev-parse", &format!("{commit}^{{tree}}")]).run().await?.text())
}

/// Hands a commit to a repository on this machine: its objects as a pack, then one new ref. Neither command has a hook
/// but the ref's, which is switched off; when the repository is another account's, both run as that account.
async fn give(
    site: &Site,
    local: &LocalRepository,
    onto: &str,
    commit: &str,
    branch: &str,
) -> Result<(), WorktreeError> {
    let theirs = |what| {
        let git = Git::new(&site.setup, what).dir(&local.common_dir);
        let git = git.args(["-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false"]);
        match project::write_as(local) {
            Some((uid, gid)) => git.run_as(uid, gid),
            None => git,
        }
    };
    // Asked first: a name that is taken must not leave objects there either.
    let taken =
        theirs("look at the branches").args(["for-each-ref", "--format=%(refname:lstrip=2)", "refs/heads"]);
    if let Some(why) = in_the_way(branch, &taken.run().await?.text()) {
        return Err(unusable(branch, &why));
    }
    let (wanted, pack) = (site.private.join("wanted.new"), site.private.join("pack.new"));
    files::write(&wanted, format!("{commit}\n^{onto}\n").as_bytes())?;
    let packed = site
        .git("pack the commit")
        .args(["pack-objects", "--quiet", "--revs", "--stdout"])
        .stdin(open(&wanted)?)
        .long()
        .run()
        .await?;
    files::write(&pack, &packed.stdout)?;
    theirs("hand over the commit").args(["unpack-objects", "-q"]).stdin(open(&pack)?).long().run().await?;
    for file in [wanted, pack] {
        files::remove(&file)?;
    }
    let name = format!("refs/heads/{branch}");
    let made = theirs("make the branch").args(["update-ref", &name, commit, ""]).outcome().await?;
    if made.code == 0 { Ok(()) } else { Err(unusable(branch, &made.detail)) }
}

async fn push(
    site: &Site,
    project: &Project,
    commit: &str,
    branch: &str,
    lock: &Lock,
) -> Result<(), WorktreeError> {
    let pushed = site
        .git("push the branch")
        .args(["push", "--quiet", "--no-verify", &format!("--force-with-lease=refs/heads/{branch}:")])
        .args(["--end-of-options", &project.remote, &format!("{commit}:refs/heads/{branch}")])
        .holding(lock)
        .long()
        .outcome()
        .await?;
    match pushed.code {
        0 => Ok(()),
        _ if pushed.detail.contains("stale info") => Err(unusable(branch, "it exists already")),
        _ => {
            let detail = stores::without_password(&pushed.detail, project);
            Err(WorktreeError::Git { what: "push the branch", detail })
        }
    }
}

/// What of the branches that are there, one a line, makes a new one of that name impossible.
fn in_the_way(branch: &str, all: &str) -> Option<String> {
    let below = |one: &str, other: &str| one.strip_prefix(other).is_some_and(|rest| rest.starts_with('/'));
    if all.lines().any(|other| other == branch) {
        return Some("it exists already".to_owned());
    }
    let other = all.lines().find(|other| below(branch, other) || below(other, branch))?;
    Some(format!("the branch {other} is in its way"))
}

fn open(path: &Path) -> Result<File, WorktreeError> {
    fs::File::open(path).map_err(WorktreeError::io(path))
}

fn unusable(branch: &str, why: &str) -> WorktreeError {
    WorktreeError::BranchUnusable { branch: branch.to_owned(), why: why.to_owned() }
}

fn not_ours(site: &Site, commit: &str) -> WorktreeError {
    WorktreeError::NotOurs { commit: commit.to_owned(), session: site.session.to_string() }
}

/// Stricter than git, which takes `a$(id)` and `refs/heads/x`.
fn check_branch(name: &str) -> Result<(), WorktreeError> {
    let letters = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._/-".contains(&b));
    let parts = name.split('/').all(|part| {
        part.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
            && !part.ends_with('.')
            && !part.ends_with(".lock")
    });
    let reserved = name == "HEAD" || name.starts_with("refs/") || name.contains("..");
    if letters && parts && !reserved && name.len() <= 200 {
        return Ok(());
    }
    Err(unusable(name, "use letters, digits and . _ - / with a letter or digit after each /, at most 200"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s15_a_branch_name_is_never_an_option_or_a_path() {
        for good in ["feature/x-1", "agentpool/0a1b", "v1.2"] {
            assert!(check_branch(good).is_ok(), "{good}");
        }
        for bad in
            ["", "-x", "a//b", "/a", "a/", "a..b", "a.lock", "refs/heads/x", "HEAD", "a$(id)", "a/-b", "ü"]
        {
            assert!(check_branch(bad).is_err(), "{bad}");
        }
        assert!(check_branch(&"a".repeat(201)).is_err());
    }
}
