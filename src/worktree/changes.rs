//! What differs between two states of a worktree, file by file. Asks ours alone; two git processes whatever the number.

use super::error::WorktreeError;
use super::git::Git;
use super::hub::is_object_id;
use super::layout::Site;
use super::patches::Patches;
use crate::domain::change::{ChangeOperation, FileChange};
use crate::domain::text::clean_bytes;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{Seek, Write};
use std::os::unix::ffi::OsStrExt;

/// Longest patch (1 GiB): it waits on the disk of the worktrees while it is read.
const PATCH_BYTES_MAX: u64 = 1 << 30;

const WHAT: &str = "compare two states";

/// The changed files, in git's order, with their diffs.
pub(super) async fn changes(site: &Site, from: &str, to: &str) -> Result<Vec<FileChange>, WorktreeError> {
    check(site, &[from, to])?;
    if from == to {
        return Ok(Vec::new());
    }
    let mut patches = Patches::default();
    let mut feed = |bytes: &[u8]| patches.feed(bytes);
    let patch = ["-p", "--src-prefix=a/", "--dst-prefix=b/"];
    let patch = compare(site).args(patch).args([from, to, "--"]);
    let (listed, patched) = tokio::join!(list(site, from, to), patch.stream(&mut feed));
    patched?;
    let mut files = listed?;
    let mut diffs = patches.finish().into_iter();
    for file in &mut files {
        // git shows a file that became a link, or the reverse, as two patches: one takes away, one adds.
        let count = if changes_kind(file) { 2 } else { 1 };
        let parts: Option<Vec<String>> = diffs.by_ref().take(count).collect();
        file.diff = parts.map(|parts| parts.concat()).filter(|_| !file.binary);
    }
    Ok(files)
}

/// The same without their diffs: one git process.
pub(super) async fn list(site: &Site, from: &str, to: &str) -> Result<Vec<FileChange>, WorktreeError> {
    check(site, &[from, to])?;
    if from == to {
        return Ok(Vec::new());
    }
    let listing = ["-z", "--raw", "--numstat", "--no-abbrev"];
    let listed = compare(site).args(listing).args([from, to, "--"]).run().await?;
    let unknown = "its answer is not in the form that agentpool knows";
    parse(&listed.stdout).ok_or_else(|| WorktreeError::Git { what: WHAT, detail: unknown.into() })
}

/// Everything that differs, or what differs at these paths, as a patch that `git apply` takes: in a file without a name, read
/// from its start.
pub(super) async fn patch(
    site: &Site,
    from: &str,
    to: &str,
    paths: &[Vec<u8>],
) -> Result<File, WorktreeError> {
    check(site, &[from, to])?;
    let failed = WorktreeError::io(&site.private);
    let mut file = match tempfile::tempfile_in(&site.private) {
        Ok(file) => file,
        Err(error) => return Err(failed(error)),
    };
    let (mut written, mut length) = (Ok(()), 0_u64);
    let mut sink = |bytes: &[u8]| {
        length += bytes.len() as u64;
        if written.is_ok() && length <= PATCH_BYTES_MAX {
            written = file.write_all(bytes);
        }
    };
    let form = ["-p", "--binary", "--full-index", "--src-prefix=a/", "--dst-prefix=b/"];
    let git = compare(site).args(form).args([from, to, "--"]);
    git.args(paths.iter().map(|path| OsStr::from_bytes(path))).literal_paths().stream(&mut sink).await?;
    if length > PATCH_BYTES_MAX {
        return Err(WorktreeError::PatchTooLong);
    }
    written.and_then(|()| file.rewind()).map_err(failed)?;
    Ok(file)
}

fn compare(site: &Site) -> Git {
    let git = site.git(WHAT).args(["diff-tree", "-r", "-M", "--no-ext-diff", "--no-textconv"]);
    git.args(["--no-color", "--ignore-submodules=none"])
}

fn check(site: &Site, states: &[&str]) -> Result<(), WorktreeError> {
    match states.iter().find(|state| !is_object_id(state)) {
        Some(state) => {
            Err(WorktreeError::NotOurs { commit: (*state).into(), session: site.session.to_string() })
        }
        None => Ok(()),
    }
}

fn changes_kind(file: &FileChange) -> bool {
    match (&file.old_mode, &file.new_mode) {
        (Some(old), Some(new)) => old[..3] != new[..3],
        _ => false,
    }
}

/// `:mode mode blob blob status NUL path NUL [path NUL]` for each file, then `added TAB removed TAB path NUL` for each in
/// the same order (with an empty path and two more for a rename).
fn parse(bytes: &[u8]) -> Option<Vec<FileChange>> {
    let mut fields = bytes.split(|b| *b == 0).peekable();
    let mut files = Vec::new();
    while let Some(head) = fields.next_if(|field| field.starts_with(b":")) {
        let head = std::str::from_utf8(&head[1..]).ok()?;
        let mut words = head.split(' ');
        let (old_mode, new_mode) = (words.next()?, words.next()?);
        let (old_blob, new_blob) = (words.next()?, words.next()?);
        let status = words.next()?.bytes().next()?;
        let first = fields.next()?;
        let renamed = matches!(status, b'R' | b'C');
        let path = if renamed { fields.next()? } else { first };
        let there = |text: &str| text.bytes().any(|b| b != b'0').then(|| text.to_owned());
        files.push(FileChange {
            path: clean_bytes(path),
            path_raw: std::str::from_utf8(path).is_err().then(|| path.to_vec()),
            old_path: renamed.then(|| clean_bytes(first)),
            old_path_raw: (renamed && std::str::from_utf8(first).is_err()).then(|| first.to_vec()),
            operation: match status {
                b'A' | b'C' => ChangeOperation::Create,
                b'D' => ChangeOperation::Delete,
                b'R' => ChangeOperation::Rename,
                _ => ChangeOperation::Modify,
            },
            old_mode: there(old_mode),
            new_mode: there(new_mode),
            binary: false,
            old_blob: there(old_blob),
            new_blob: there(new_blob),
            diff: None,
            additions: 0,
            deletions: 0,
        });
    }
    for file in &mut files {
        let mut counts = fields.next()?.splitn(3, |b| *b == b'\t');
        let mut count = || std::str::from_utf8(counts.next()?).ok();
        let (added, removed) = (count()?, count()?);
        file.binary = added == "-";
        file.additions = added.parse().unwrap_or(0);
        file.deletions = removed.parse().unwrap_or(0);
        if counts.next()?.is_empty() {
            fields.next()?;
            fields.next()?;
        }
    }
    Some(files)
}
