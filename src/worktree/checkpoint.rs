//! Saves a state: tree, HEAD, branch and index, as one commit in ours. Never changes worktree or hub.

use super::Checkpoint;
use super::error::WorktreeError;
use super::files;
use super::hub::{self, Head, is_object_id};
use super::layout::Site;
use super::lock::Lock;
use super::snapshot;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Longest index of an agent that is looked at (2 million files).
const INDEX_BYTES_MAX: u64 = 256 << 20;
/// Longest label, in characters; the rest is cut.
const LABEL_CHARS_MAX: usize = 200;

/// A checkpoint as recorded; number 0 is the base.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Saved {
    pub commit: String,
    pub tree: String,
    pub number: u64,
    pub head: Head,
    pub index: Index,
}

/// What the agent's index held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Index {
    /// What HEAD holds: nothing staged.
    Clean,
    /// Something staged or unmerged: the file `index-<number>` in the session's folder is a copy.
    Kept(u64),
}

/// Takes a checkpoint under the session's lock.
pub(super) async fn checkpoint(site: &Site, label: &str) -> Result<Checkpoint, WorktreeError> {
    let lock = site.lock().await?;
    Ok(save(site, label, &lock).await?.0)
}

/// Takes a checkpoint; also says which paths are not in it.
pub(super) async fn save(
    site: &Site,
    label: &str,
    lock: &Lock,
) -> Result<(Checkpoint, Vec<String>), WorktreeError> {
    let last = latest(site).await?;
    let seen = snapshot::take(site, lock).await?;
    let mut notices = seen.notices;
    let head = hub::head(site).unwrap_or_else(|| last.head.clone());
    let parent = fetch_head(site, &last, &head, lock, &mut notices).await?;
    let mark = mark(&site.admin().join("index"), &head);
    let index = look_at_index(site, &last, &head, mark.as_deref(), lock).await?;
    let tree = seen.tree.unwrap_or_else(|| last.tree.clone());
    let reused =
        last.number > 0 && tree == last.tree && head == last.head && index == Some(last.index.clone());
    if reused {
        remember_index(site, mark.as_deref(), &last.index)?;
        let same = Checkpoint { commit: last.commit, tree, reused, notices };
        return Ok((same, seen.left_out));
    }
    let number = last.number + 1;
    let index = match index {
        Some(index) => index,
        None => {
            let (from, to) = (site.private.join("hub-index"), index_file(site, number));
            fs::rename(&from, &to).map_err(WorktreeError::io(&to))?;
            Index::Kept(number)
        }
    };
    let mut saved = Saved { commit: String::new(), tree, number, head: head.clone(), index };
    saved.commit = commit(site, &saved, &last.commit, parent, label, lock).await?;
    remember_index(site, mark.as_deref(), &saved.index)?;
    Ok((Checkpoint { commit: saved.commit, tree: saved.tree, reused, notices }, seen.left_out))
}

/// Writes the commit of a state, and its ref.
pub(super) async fn commit(
    site: &Site,
    saved: &Saved,
    previous: &str,
    parent: Option<&str>,
    label: &str,
    lock: &Lock,
) -> Result<String, WorktreeError> {
    let message = message(site, saved, label);
    let mut args = vec!["commit-tree", &saved.tree, "-p", previous];
    if let Some(head) = parent.filter(|head| *head != previous) {
        args.extend(["-p", head]);
    }
    args.extend(["-m", &message]);
    let commit = site.git("write the checkpoint").args(args).holding(lock).run().await?.text();
    let name = site.reference(&saved.number.to_string());
    site.git("name the checkpoint").args(["update-ref", &name, &commit, ""]).holding(lock).run().await?;
    files::write(&site.private.join("HEAD"), format!("{commit}\n").as_bytes())?;
    Ok(commit)
}

/// Subject and facts. The label is one line, so it cannot forge a fact.
fn message(site: &Site, saved: &Saved, label: &str) -> String {
    let label: String =
        label.chars().take(LABEL_CHARS_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect();
    let index = match saved.index {
        Index::Clean => "clean".to_owned(),
        Index::Kept(number) => format!("kept {number}"),
    };
    format!(
        "checkpoint: {label}\n\nSession: {}\nNumber: {}\nHead: {}\nBranch: {}\nIndex: {index}\n",
        site.session,
        saved.number,
        saved.head.commit.as_deref().unwrap_or("none"),
        saved.head.branch.as_deref().unwrap_or("detached"),
    )
}

/// The last checkpoint, or the base.
pub(super) async fn latest(site: &Site) -> Result<Saved, WorktreeError> {
    let newest = numbered(site).into_iter().max_by_key(|(number, _)| *number);
    match newest {
        Some((number, commit)) => read(site, number, &commit).await,
        None => base(site).await,
    }
}

/// The checkpoint with that commit, if it is one of this session.
///
/// # Errors
/// [`WorktreeError::NotOurs`].
pub(super) async fn find(site: &Site, commit: &str) -> Result<Saved, WorktreeError> {
    if let Some((number, commit)) = numbered(site).into_iter().find(|(_, found)| found == commit) {
        return read(site, number, &commit).await;
    }
    let base = base(site).await?;
    if base.commit == commit {
        return Ok(base);
    }
    Err(WorktreeError::NotOurs { commit: commit.to_owned(), session: site.session.to_string() })
}

/// Numbers and commits of the session's checkpoints. Ours never packs its refs, so they are files.
pub(super) fn numbered(site: &Site) -> Vec<(u64, String)> {
    let base = site.stores.ours.join(site.reference("base"));
    let dir = base.parent().expect("a ref lies in a folder");
    let entry = |entry: fs::DirEntry| {
        let number = entry.file_name().to_str()?.parse().ok()?;
        Some((number, files::read_line(&entry.path())?))
    };
    fs::read_dir(dir).into_iter().flatten().flatten().filter_map(entry).collect()
}

/// The base as a state: HEAD on the session's own branch, nothing staged.
async fn base(site: &Site) -> Result<Saved, WorktreeError> {
    let name = format!("{}^{{commit}}", site.reference("base"));
    let tree = format!("{}^{{tree}}", site.reference("base"));
    let found = site.git("read the base").args(["rev-parse", &name, &tree]).run().await?.text();
    let (commit, tree) = found.split_once('\n').unwrap_or_default();
    let head =
        Head { branch: Some(format!("refs/heads/{}", site.branch())), commit: Some(commit.to_owned()) };
    Ok(Saved { commit: commit.to_owned(), tree: tree.to_owned(), number: 0, head, index: Index::Clean })
}

async fn read(site: &Site, number: u64, commit: &str) -> Result<Saved, WorktreeError> {
    let cache = site.private.join("last");
    let cached = files::read(&cache, 64 << 10).and_then(|bytes| String::from_utf8(bytes).ok());
    if let Some(text) = cached.as_deref().and_then(|text| text.strip_prefix(commit)?.strip_prefix('\n'))
        && let Some(saved) = parse(number, commit, text)
    {
        return Ok(saved);
    }
    let text = site.git("read a checkpoint").args(["cat-file", "commit", commit]).run().await?.text();
    let saved = parse(number, commit, &text).ok_or_else(|| WorktreeError::Git {
        what: "read a checkpoint",
        detail: format!("{commit} is not one that agentpool wrote"),
    })?;
    files::write(&cache, format!("{commit}\n{text}\n").as_bytes())?;
    Ok(saved)
}

fn parse(number: u64, commit: &str, text: &str) -> Option<Saved> {
    let (header, message) = text.split_once("\n\n")?;
    let tree = header.lines().find_map(|line| line.strip_prefix("tree "))?;
    let fact = |name: &str| message.lines().skip(1).find_map(|line| line.strip_prefix(name));
    let (head, branch) = (fact("Head: ")?, fact("Branch: ")?);
    let head = Head {
        branch: (branch != "detached").then(|| branch.to_owned()),
        commit: is_object_id(head).then(|| head.to_owned()),
    };
    let index = match fact("Index: ")?.strip_prefix("kept ") {
        Some(number) => Index::Kept(number.parse().ok()?),
        None => Index::Clean,
    };
    Some(Saved { commit: commit.to_owned(), tree: tree.to_owned(), number, head, index })
}

/// The copy of an agent's index that belongs to a checkpoint.
pub(super) fn index_file(site: &Site, number: u64) -> std::path::PathBuf {
    site.private.join(format!("index-{number}"))
}

/// Brings what the agent committed into ours; says which commit becomes a parent. A hub that an agent broke costs its
/// commits (a notice says so), never the files.
async fn fetch_head<'a>(
    site: &Site,
    last: &Saved,
    head: &'a Head,
    lock: &Lock,
    notices: &mut Vec<String>,
) -> Result<Option<&'a str>, WorktreeError> {
    let Some(commit) = head.commit.as_deref().filter(|_| head.commit != last.head.commit) else {
        return Ok(None);
    };
    let fetched = site
        .git("fetch the agent's commits")
        .args(["fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-auto-maintenance"])
        .args(["--no-recurse-submodules", "--end-of-options"])
        .args([site.stores.hub.as_os_str(), commit.as_ref()])
        .holding(lock)
        .outcome()
        .await?;
    if fetched.code == 0 {
        return Ok(Some(commit));
    }
    notices.push(format!("commits up to {commit} could not be saved, only the files: {}", fetched.detail));
    Ok(None)
}

/// What the agent's index holds; none for something staged that no checkpoint has (its copy is then `hub-index`).
async fn look_at_index(
    site: &Site,
    last: &Saved,
    head: &Head,
    mark: Option<&str>,
    lock: &Lock,
) -> Result<Option<Index>, WorktreeError> {
    let path = site.admin().join("index");
    let Some(mark) = mark else { return Ok(Some(Index::Clean)) };
    if files::read_line(&site.private.join("index-mark")) == Some(format!("{mark} {}", word(&last.index))) {
        return Ok(Some(last.index.clone()));
    }
    let Some(bytes) = files::read(&path, INDEX_BYTES_MAX) else { return Ok(Some(Index::Clean)) };
    let copy = site.private.join("hub-index");
    files::write(&copy, &bytes)?;
    if let Some(commit) = &head.commit {
        let compared = site
            .git("look at what is staged")
            .index(&copy)
            .args(["diff-index", "--cached", "--quiet", "--ignore-submodules=all", commit, "--"])
            .holding(lock)
            .outcome()
            .await?;
        if compared.code == 0 {
            return Ok(Some(Index::Clean));
        }
    }
    if let Index::Kept(number) = last.index
        && files::read(&index_file(site, number), INDEX_BYTES_MAX) == Some(bytes)
    {
        return Ok(Some(Index::Kept(number)));
    }
    Ok(None)
}

/// Remembers what the index of the agent looked like from outside *before* it was opened, so that an untouched one is
/// not opened again.
fn remember_index(site: &Site, mark: Option<&str>, index: &Index) -> Result<(), WorktreeError> {
    let path = site.private.join("index-mark");
    match mark {
        Some(mark) => files::write(&path, format!("{mark} {}\n", word(index)).as_bytes()),
        None => files::remove(&path),
    }
}

/// git replaces its index by a rename, so a change shows in the inode, the time or the length.
fn mark(path: &Path, head: &Head) -> Option<String> {
    let meta = fs::symlink_metadata(path).ok().filter(fs::Metadata::is_file)?;
    let head = head.commit.as_deref().unwrap_or("none");
    Some(format!("{} {} {}.{} {head}", meta.len(), meta.ino(), meta.mtime(), meta.mtime_nsec()))
}

fn word(index: &Index) -> String {
    match index {
        Index::Clean => "clean".to_owned(),
        Index::Kept(number) => format!("kept-{number}"),
    }
}
