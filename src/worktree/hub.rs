//! The agents' side of a worktree, read and written as files (layout: gitrepository-layout(5)). Runs no git: any git that
//! opens the hub obeys configuration and hooks that an agent may have planted there, and adding worktrees by git in
//! parallel fails (20 of 96 measured). Nothing read here is trusted to be well formed.

use super::error::WorktreeError;
use super::files;
use super::layout::Site;
use std::fs;
use std::path::{Component, Path};
use std::time::{Duration, SystemTime};

/// A lock file of the agent's git older than this was left by one that was killed: its own operations take seconds.
const STALE_LOCK: Duration = Duration::from_secs(60);
/// Longest `packed-refs` that is read.
const PACKED_REFS_BYTES_MAX: u64 = 64 << 20;
/// What a merge, rebase, pick, revert or bisection leaves in the administrative folder while it lasts.
const OPERATIONS: [&str; 12] = [
    "MERGE_HEAD",
    "MERGE_MODE",
    "MERGE_MSG",
    "MERGE_RR",
    "AUTO_MERGE",
    "SQUASH_MSG",
    "CHERRY_PICK_HEAD",
    "REVERT_HEAD",
    "REBASE_HEAD",
    "rebase-merge",
    "rebase-apply",
    "sequencer",
];

/// Where a worktree's HEAD points.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// `refs/heads/…`; none when detached.
    pub branch: Option<String>,
    /// Its commit; none on a branch without one.
    pub commit: Option<String>,
}

/// The worktree's HEAD; none when it cannot be made out.
pub(super) fn head(site: &Site) -> Option<Head> {
    let text = files::read_line(&site.admin().join("HEAD"))?;
    match text.strip_prefix("ref: ") {
        None => is_object_id(&text).then(|| Head { branch: None, commit: Some(text.clone()) }),
        Some(name) => {
            let name = name.trim();
            let branch = (name.starts_with("refs/heads/") && is_plain(name)).then(|| name.to_owned())?;
            let commit = resolve(&site.stores.hub, &branch);
            Some(Head { branch: Some(branch), commit })
        }
    }
}

/// True for what git prints as an object's name.
pub(super) fn is_object_id(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// True when `.git` and the administrative folder are as they must be and no stale lock bars the agent's git. A handful
/// of small reads: this is what `ensure` costs when all is well.
pub(super) fn is_sound(site: &Site) -> bool {
    let admin = site.admin();
    files::is_dir(&site.tree)
        && expected(site)
            .iter()
            .all(|(path, text)| files::read(path, 4096).as_deref() == Some(text.as_bytes()))
        && files::read(&admin.join("locked"), 4096).is_some()
        && has_sound_head(site)
        && files::is_index(&admin.join("index"))
        && stale_locks(site).is_empty()
}

/// Puts the pointers between worktree and hub right; keeps what an agent put in their place. True when HEAD had to be
/// made, false when the agent's own was kept.
pub(super) fn connect(
    site: &Site,
    fallback: &Head,
    notices: &mut Vec<String>,
) -> Result<bool, WorktreeError> {
    let admin = site.admin();
    if !files::is_dir(&admin) {
        files::remove(&admin)?;
        files::make_dir(&admin)?;
    }
    // Locked first: from here on no `git worktree prune` of an agent takes it away.
    files::write(&admin.join("locked"), b"a session of agentpool works here\n")?;
    for (path, text) in expected(site) {
        if files::read(&path, 4096).as_deref() == Some(text.as_bytes()) {
            continue;
        }
        if files::is_dir(&path) {
            let kept = files::move_aside(&path, &site.private.join("kept-git"))?;
            notices.push(format!(
                "a repository had taken the place of .git; it was moved to {}",
                kept.display()
            ));
        }
        files::write(&path, text.as_bytes())?;
    }
    for lock in stale_locks(site) {
        files::remove(&lock)?;
        notices.push(format!("{} was left by a git that was killed, and removed", lock.display()));
    }
    if has_sound_head(site) {
        return Ok(false);
    }
    set_head(site, fallback, notices)?;
    Ok(true)
}

/// Points HEAD at a commit, on its branch where that can be: not when another worktree has it, and not when another
/// branch's name is in the way; then detached, and a notice says so.
pub(super) fn set_head(site: &Site, head: &Head, notices: &mut Vec<String>) -> Result<(), WorktreeError> {
    let path = site.admin().join("HEAD");
    let (branch, commit) = match (&head.branch, &head.commit) {
        (Some(branch), None) => return files::write(&path, format!("ref: {branch}\n").as_bytes()),
        (None, None) => return Ok(()),
        (None, Some(commit)) => return files::write(&path, format!("{commit}\n").as_bytes()),
        (Some(branch), Some(commit)) => (branch, commit),
    };
    let why = if !is_plain(branch) {
        Some("is no name for a branch")
    } else if is_elsewhere(site, branch) {
        Some("is checked out in another session")
    } else {
        write_branch(site, branch, commit)
    };
    match why {
        None => files::write(&path, format!("ref: {branch}\n").as_bytes()),
        Some(why) => {
            notices.push(format!("HEAD is detached at {commit}: {branch} {why}"));
            files::write(&path, format!("{commit}\n").as_bytes())
        }
    }
}

/// Ends whatever merge, rebase, pick, revert or bisection is in progress, without touching files.
pub(super) fn end_operations(site: &Site) -> Result<(), WorktreeError> {
    let admin = site.admin();
    for name in OPERATIONS {
        files::remove(&admin.join(name))?;
    }
    for entry in fs::read_dir(&admin).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with("BISECT_") || name.ends_with(".lock") {
            files::remove(&entry.path())?;
        }
    }
    Ok(())
}

/// Takes the worktree off the hub: its folder and the branch that it was made with.
pub(super) fn disconnect(site: &Site) -> Result<(), WorktreeError> {
    files::remove(&site.admin())?;
    let branch = format!("refs/heads/{}", site.branch());
    if is_elsewhere(site, &branch) {
        return Ok(());
    }
    files::remove(&site.stores.hub.join(&branch))?;
    files::remove(&site.stores.hub.join("logs").join(&branch))?;
    let packed = site.stores.hub.join("packed-refs");
    let Some(bytes) = files::read(&packed, PACKED_REFS_BYTES_MAX) else { return Ok(()) };
    let text = String::from_utf8_lossy(&bytes);
    let ends = format!(" {branch}");
    if text.lines().any(|line| line.ends_with(&ends)) {
        let kept: String =
            text.lines().filter(|line| !line.ends_with(&ends)).flat_map(|line| [line, "\n"]).collect();
        files::write(&packed, kept.as_bytes())?;
    }
    Ok(())
}

/// The commit of a ref in the hub, loose or packed.
pub(super) fn resolve(hub: &Path, name: &str) -> Option<String> {
    if let Some(text) = files::read_line(&hub.join(name)) {
        return is_object_id(&text).then_some(text);
    }
    packed(hub).into_iter().find_map(|(id, found)| (found == name).then_some(id))
}

/// Commits and names of the hub's packed refs.
fn packed(hub: &Path) -> Vec<(String, String)> {
    let bytes = files::read(&hub.join("packed-refs"), PACKED_REFS_BYTES_MAX).unwrap_or_default();
    let line = |line: &[u8]| {
        let (id, name) = std::str::from_utf8(line).ok()?.split_once(' ')?;
        is_object_id(id).then(|| (id.to_owned(), name.to_owned()))
    };
    bytes.split(|b| *b == b'\n').filter_map(line).collect()
}

/// An agent may go to a new branch without a commit. On the branch that we made there is always one: without it a power
/// cut or a careless hand took it.
fn has_sound_head(site: &Site) -> bool {
    let own = format!("refs/heads/{}", site.branch());
    head(site).is_some_and(|head| head.commit.is_some() || head.branch != Some(own))
}

fn expected(site: &Site) -> [(std::path::PathBuf, String); 3] {
    let (admin, git_file) = (site.admin(), site.tree.join(".git"));
    [
        (admin.join("commondir"), "../..\n".to_owned()),
        (admin.join("gitdir"), format!("{}\n", git_file.display())),
        (git_file, format!("gitdir: {}\n", admin.display())),
    ]
}

/// Index and HEAD are what an agent's git locks in the administrative folder; the branch lies in the hub.
fn stale_locks(site: &Site) -> Vec<std::path::PathBuf> {
    let admin = site.admin();
    let branch = site.stores.hub.join("refs/heads").join(format!("{}.lock", site.branch()));
    let is_stale = |path: &std::path::PathBuf| {
        let age = |meta: fs::Metadata| SystemTime::now().duration_since(meta.modified().ok()?).ok();
        fs::symlink_metadata(path).ok().and_then(age).is_some_and(|age| age > STALE_LOCK)
    };
    [admin.join("index.lock"), admin.join("HEAD.lock"), branch].into_iter().filter(is_stale).collect()
}

/// Points a branch at a commit; says what is in the way when it cannot.
fn write_branch(site: &Site, branch: &str, commit: &str) -> Option<&'static str> {
    const IN_THE_WAY: &str = "has another branch's name in the way";
    let hub = &site.stores.hub;
    let nested = |one: &str, other: &str| one.strip_prefix(other).is_some_and(|rest| rest.starts_with('/'));
    if packed(hub).iter().any(|(_, name)| nested(name, branch) || nested(branch, name)) {
        return Some(IN_THE_WAY);
    }
    let path = hub.join(branch);
    if fs::create_dir_all(path.parent().expect("refs/heads is above")).is_err() {
        return Some(IN_THE_WAY);
    }
    // An empty folder is what is left of branches that were deleted.
    if files::is_dir(&path) && fs::remove_dir(&path).is_err() {
        return Some(IN_THE_WAY);
    }
    let written = files::remove(&hub.join(format!("{branch}.lock")))
        .and_then(|()| files::write(&path, format!("{commit}\n").as_bytes()));
    written.err().map(|_| "could not be written")
}

fn is_elsewhere(site: &Site, branch: &str) -> bool {
    let own = site.admin();
    let text = format!("ref: {branch}");
    fs::read_dir(site.stores.hub.join("worktrees"))
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.path() != own)
        .any(|entry| files::read_line(&entry.path().join("HEAD")).as_deref() == Some(&text))
}

/// A name that stays below the hub when it is used as a path.
fn is_plain(name: &str) -> bool {
    name.len() <= 512
        && !name.contains(|c: char| c.is_control() || " ~^:?*[\\".contains(c))
        && Path::new(name).components().all(|part| matches!(part, Component::Normal(_)))
        && !name.split('/').any(|part| part.is_empty() || part.starts_with('.') || part.ends_with(".lock"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s14_a_branch_name_cannot_leave_the_hub() {
        assert!(is_plain("refs/heads/a/b-1"));
        for bad in [
            "refs/heads/../../x",
            "/etc/passwd",
            "refs/heads//x",
            "refs/heads/.x",
            "refs/heads/x.lock",
            "a\0b",
        ] {
            assert!(!is_plain(bad), "{bad:?}");
        }
    }
}
