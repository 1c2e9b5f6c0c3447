//! The working tree as a tree object: what has changed since the last checkpoint goes into our private index.
//! Never makes a commit, never touches a file of the worktree, never opens a nested repository.

use super::error::WorktreeError;
use super::files;
use super::git::Git;
use super::layout::Site;
use super::lock::Lock;
use super::{CHECKPOINT_BYTES_MAX, CHECKPOINT_FILES_MAX, FILE_BYTES_MAX};
use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;

/// Names listed in one notice.
const NAMES_MAX: usize = 10;

/// What a look at the worktree gave.
pub(super) struct Snapshot {
    /// The tree; none when it is that of the last checkpoint.
    pub tree: Option<String>,
    /// Paths that are there and not in it: nested repositories (with a slash at the end), huge files, what git could not take.
    pub left_out: Vec<String>,
    /// The same for readers, and what could not be read.
    pub notices: Vec<String>,
}

/// Looks. One git process when nothing has changed (5 ms for 2,000 files), three otherwise.
pub(super) async fn take(site: &Site, lock: &Lock) -> Result<Snapshot, WorktreeError> {
    let status = site
        .git_on_tree("look at the worktree")
        .args(["status", "--porcelain=v2", "-z", "--untracked-files=all", "--ignore-submodules=all"])
        .args(["--no-renames", "--no-ahead-behind"])
        .holding(lock)
        .run()
        .await?;
    let seen = sort(site, &status.stdout);
    let mut notices = Vec::new();
    note(&mut notices, "nested repositories are not saved", &seen.nested);
    note(&mut notices, "files above 64 MiB are not saved", &seen.huge);
    let mut left_out: Vec<String> = seen.nested.iter().chain(&seen.huge).map(|path| lossy(path)).collect();
    if seen.files > CHECKPOINT_FILES_MAX || seen.bytes > CHECKPOINT_BYTES_MAX {
        return Err(WorktreeError::TooLarge { files: seen.files, bytes: seen.bytes });
    }
    if seen.files == 0 {
        return Ok(Snapshot { tree: None, left_out, notices });
    }
    let unsaved = add(site, lock, &seen, &mut notices).await?;
    left_out.extend(unsaved.iter().map(|path| lossy(path)));
    let tree = site.git("write the tree").args(["write-tree"]).holding(lock).run().await?.text();
    Ok(Snapshot { tree: Some(tree), left_out, notices })
}

/// Adds; says which paths could not be.
async fn add(
    site: &Site,
    lock: &Lock,
    seen: &Seen,
    notices: &mut Vec<String>,
) -> Result<Vec<Vec<u8>>, WorktreeError> {
    // Everything but what is left out. A file, for the number of paths and for names with newlines.
    let mut paths = b".\0".to_vec();
    for path in seen.nested.iter().chain(&seen.huge) {
        paths.extend_from_slice(b":(exclude,top,literal)");
        paths.extend_from_slice(path);
        paths.push(0);
    }
    let list = site.private.join("paths.new");
    files::write(&list, &paths)?;
    let added = adding(site, &["--all", "--ignore-errors", "--pathspec-file-nul"])
        .args([OsStr::new("--pathspec-from-file"), list.as_os_str()])
        .holding(lock)
        .long()
        .outcome()
        .await?;
    files::remove(&list)?;
    match added.code {
        0 => Ok(Vec::new()),
        // 1: some could not be read; all others are in.
        1 => {
            notices.push(format!("some files could not be saved: {}", added.detail));
            let left = unsaved(site, lock).await?;
            let known: HashSet<&Vec<u8>> = seen.nested.iter().chain(&seen.huge).collect();
            Ok(left.into_iter().filter(|path| !known.contains(path)).collect())
        }
        _ => Err(WorktreeError::Git { what: "save the files", detail: added.detail }),
    }
}

/// `git add` on the session's files.
pub(super) fn adding(site: &Site, how: &[&str]) -> Git {
    // A file above the threshold goes into a pack of its own, which git (2.47) loses the folder of when its objects are synced in batches:
    // the checkpoint fails. Below our own limit nothing is that big.
    let threshold = format!("core.bigFileThreshold={}", FILE_BYTES_MAX + 1);
    site.git_on_tree("save the files").args(["-c", &threshold, "add"]).args(how)
}

/// What is not in the index as it is on disk: git refused its name, or could not read it.
async fn unsaved(site: &Site, lock: &Lock) -> Result<Vec<Vec<u8>>, WorktreeError> {
    let git = site.git_on_tree("look at what was not saved");
    let git = git.args(["ls-files", "-z", "--others", "--modified", "--exclude-standard"]);
    let listed = git.holding(lock).run().await?;
    Ok(listed.stdout.split(|b| *b == 0).filter(|path| !path.is_empty()).map(<[u8]>::to_vec).collect())
}

/// What `git status` told, in our nouns.
#[derive(Default)]
struct Seen {
    files: usize,
    bytes: u64,
    nested: Vec<Vec<u8>>,
    huge: Vec<Vec<u8>>,
}

fn sort(site: &Site, status: &[u8]) -> Seen {
    let mut seen = Seen::default();
    for entry in status.split(|b| *b == 0).filter(|entry| !entry.is_empty()) {
        let path = match entry[0] {
            b'?' => &entry[2..],
            // `1 XY sub mH mI mW hH hI path`
            b'1' => entry.splitn(9, |b| *b == b' ').nth(8).unwrap_or_default(),
            _ => continue,
        };
        if path.ends_with(b"/") {
            seen.nested.push(path.to_vec());
            continue;
        }
        let len = fs::symlink_metadata(site.tree.join(OsStr::from_bytes(path)))
            .map_or(0, |meta| if meta.is_file() { meta.len() } else { 0 });
        if len > FILE_BYTES_MAX {
            seen.huge.push(path.to_vec());
        } else {
            seen.files += 1;
            seen.bytes += len;
        }
    }
    seen
}

fn note(notices: &mut Vec<String>, what: &str, paths: &[Vec<u8>]) {
    if paths.is_empty() {
        return;
    }
    let mut names: Vec<String> = paths.iter().take(NAMES_MAX).map(|path| lossy(path)).collect();
    if paths.len() > NAMES_MAX {
        names.push(format!("and {} more", paths.len() - NAMES_MAX));
    }
    notices.push(format!("{what}: {}", names.join(", ")));
}

fn lossy(path: &[u8]) -> String {
    crate::domain::text::clean_bytes(path)
}
