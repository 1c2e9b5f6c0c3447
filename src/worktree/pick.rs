//! Chosen files of one state put into another, as a tree object. Works on an index of its own: never touches a file or an agent's
//! index. The *accepted* state lies here too: what of a session a person has taken over so far, file by file.

use super::error::WorktreeError;
use super::files;
use super::hub::is_object_id;
use super::layout::Site;
use super::lock::Lock;
use crate::domain::change::{Chosen, FileChange};
use std::collections::HashSet;
use std::fs::File;

/// States after an apply that are remembered: each is a base to try when a later one meets a conflict.
const ACCEPTED_MAX: usize = 50;
/// What git writes for no file.
const NO_MODE: &[u8] = b"000000";

/// The chosen ones of the changed files.
///
/// # Errors
/// [`WorktreeError::NoSuchChange`] for a path that is not among them.
pub(super) fn choose(changed: Vec<FileChange>, chosen: &Chosen) -> Result<Vec<FileChange>, WorktreeError> {
    let Chosen::Files(names) = chosen else { return Ok(changed) };
    let there: HashSet<&str> = changed.iter().map(|file| file.path.as_str()).collect();
    let unknown: Vec<String> = names.iter().filter(|name| !there.contains(name.as_str())).cloned().collect();
    if !unknown.is_empty() {
        return Err(WorktreeError::NoSuchChange { paths: unknown });
    }
    let names: HashSet<&str> = names.iter().map(String::as_str).collect();
    Ok(changed.into_iter().filter(|file| names.contains(file.path.as_str())).collect())
}

/// The tree of `into` with those files as they are in `from` (there or not there).
pub(super) async fn pick(
    site: &Site,
    into: &str,
    from: &str,
    picked: &[FileChange],
    lock: &Lock,
) -> Result<String, WorktreeError> {
    let paths: HashSet<&[u8]> = picked.iter().flat_map(FileChange::raw_paths).collect();
    pick_paths(site, into, from, &paths, lock).await
}

/// The same by raw paths.
pub(super) async fn pick_paths(
    site: &Site,
    into: &str,
    from: &str,
    paths: &HashSet<&[u8]>,
    lock: &Lock,
) -> Result<String, WorktreeError> {
    let listed = site
        .git("compare two states")
        .args(["diff-tree", "-r", "-z", "--raw", "--no-abbrev", "--no-renames", "--ignore-submodules=none"])
        .args([into, from, "--"])
        .run()
        .await?;
    let index = site.private.join("pick-index.new");
    files::remove(&index)?;
    let git = |what| site.git(what).index(&index);
    git("read a state").args(["read-tree", into]).holding(lock).run().await?;
    let list = site.private.join("paths.new");
    files::write(&list, &entries(&listed.stdout, paths))?;
    // A file that stands where a picked one needs a folder, or the reverse, goes with it: --replace.
    let update = git("pick the files").args(["update-index", "--add", "--replace", "-z", "--index-info"]);
    update.stdin(File::open(&list).map_err(WorktreeError::io(&list))?).run().await?;
    let tree = git("write the tree").args(["write-tree"]).holding(lock).run().await?.text();
    for file in [index, list] {
        files::remove(&file)?;
    }
    Ok(tree)
}

/// `:mode mode blob blob status NUL path NUL` becomes `mode SP blob TAB path NUL`, what goes first.
fn entries(listed: &[u8], paths: &HashSet<&[u8]>) -> Vec<u8> {
    let (mut gone, mut there) = (Vec::new(), Vec::new());
    let mut fields = listed.split(|byte| *byte == 0);
    while let (Some(head), Some(path)) = (fields.next(), fields.next()) {
        let words: Vec<&[u8]> = head.split(|byte| *byte == b' ').collect();
        let [_, mode, _, blob, _] = words.as_slice() else { continue };
        if !paths.contains(path) {
            continue;
        }
        // git takes the mode 0 for a removal.
        let (list, mode) = if *mode == NO_MODE { (&mut gone, b"0".as_slice()) } else { (&mut there, *mode) };
        for part in [mode, b" ", *blob, b"\t", path, b"\0"] {
            list.extend_from_slice(part);
        }
    }
    gone.extend(there);
    gone
}

/// The tree that has been taken over so far: the base's, with what was applied since.
pub(super) async fn accepted(site: &Site) -> Result<String, WorktreeError> {
    match accepted_states(site).pop() {
        Some(tree) => Ok(tree),
        None => {
            let base = format!("{}^{{tree}}", site.reference("base"));
            Ok(site.git("read the base").args(["rev-parse", &base]).run().await?.text())
        }
    }
}

/// The trees that had been taken over after each apply, the oldest first.
pub(super) fn accepted_states(site: &Site) -> Vec<String> {
    let text = files::read_line(&site.private.join("applied")).unwrap_or_default();
    text.lines().filter(|tree| is_object_id(tree)).map(str::to_owned).collect()
}

/// Remembers one more, and the last [`ACCEPTED_MAX`].
pub(super) fn accept(site: &Site, tree: &str) -> Result<(), WorktreeError> {
    let mut states = accepted_states(site);
    states.retain(|known| known != tree);
    states.push(tree.to_owned());
    let kept = states.len().saturating_sub(ACCEPTED_MAX);
    let text: String = states[kept..].iter().flat_map(|tree| [tree, "\n"]).collect();
    files::write_durably(&site.private.join("applied"), text.as_bytes())
}
