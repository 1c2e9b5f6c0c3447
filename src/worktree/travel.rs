//! The way from one saved state of the files to another. What is in neither is not touched; what would be overwritten or deleted is saved
//! before, or git refuses: its two-tree merge looks whether each file is still what the index knows.

use super::checkpoint::{self, Saved};
use super::error::WorktreeError;
use super::files;
use super::layout::Site;
use super::lock::Lock;
use super::{pick, restore};
use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Somebody writes while we go: so often is what they wrote saved and the way gone on.
const TRIES_MAX: usize = 3;

/// Paths, as git has them.
type Paths = Vec<Vec<u8>>;

/// Brings the files from `from`, the state that was saved just now, to `to`. Paths that are ignored now, or by the rules of `to`, stay.
pub(super) async fn go(site: &Site, from: &str, to: &str, lock: &Lock) -> Result<(), WorktreeError> {
    match way(site, from, to, lock).await {
        Err(WorktreeError::Git { .. }) => go_on(site, from, to, lock).await,
        done => done,
    }
}

/// The same when it was begun before and cut off, at any point: what is there may be of either state, or newer than both.
pub(super) async fn go_on(site: &Site, from: &str, to: &str, lock: &Lock) -> Result<(), WorktreeError> {
    let mut tries = 0;
    loop {
        tries += 1;
        let index = site.private.join("index");
        files::remove(&index)?;
        site.git_on_tree("read a state").args(["read-tree", from]).holding(lock).run().await?;
        restore::skip_submodules(site, lock).await?;
        // A file that cannot be read stays as the index has it, and is refused below if it would have to go.
        let known = super::snapshot::adding(site, &["--update", "--ignore-errors"]);
        known.args(["--", "."]).holding(lock).long().outcome().await?;
        match way(site, from, to, lock).await {
            Err(WorktreeError::Git { .. }) if tries < TRIES_MAX => {}
            done => return done,
        }
    }
}

/// From what the index holds, which is `from` or somewhere on the way.
async fn way(site: &Site, from: &str, to: &str, lock: &Lock) -> Result<(), WorktreeError> {
    let differing = differing(site, from, to).await?;
    let blocking: HashSet<Vec<u8>> =
        differing.made.iter().filter_map(|path| in_the_way(&site.tree, path)).collect();
    if !blocking.is_empty() {
        // Ignored files, and those that a way that was cut off had made already.
        let list = write_list(site, blocking.iter())?;
        let add = super::snapshot::adding(site, &["--force", "--pathspec-file-nul"]).literal_paths();
        add.args([OsStr::new("--pathspec-from-file"), list.as_os_str()]).holding(lock).long().run().await?;
        files::remove(&list)?;
    }
    let mut tree = write_tree(site, lock).await?;
    keep(site, &tree, from, to, lock).await?;
    let rules: HashSet<&[u8]> = differing.all().filter(|path| is_rules(path)).map(Vec::as_slice).collect();
    if !rules.is_empty() {
        // What they ignore is asked below, and git reads them from the files.
        let ruled = pick::pick_paths(site, &tree, to, &rules, lock).await?;
        merge(site, &tree, &ruled, lock).await?;
        tree = ruled;
    }
    let stay = ignored(site, &differing).await?;
    if !stay.is_empty() {
        let list = write_list(site, stay.iter())?;
        let git =
            site.git_on_tree("leave ignored files").args(["update-index", "--force-remove", "-z", "--stdin"]);
        git.stdin(open(&list)?).run().await?;
        files::remove(&list)?;
        tree = write_tree(site, lock).await?;
    }
    merge(site, &tree, to, lock).await?;
    restore::skip_submodules(site, lock).await
}

/// The paths that only one of the states has, and those that both have and are not the same.
struct Differing {
    gone: Paths,
    made: Paths,
    other: Paths,
}

impl Differing {
    fn all(&self) -> impl Iterator<Item = &Vec<u8>> {
        self.gone.iter().chain(&self.made).chain(&self.other)
    }
}

async fn differing(site: &Site, from: &str, to: &str) -> Result<Differing, WorktreeError> {
    let listed = site
        .git("compare two states")
        .args(["diff-tree", "-r", "-z", "--name-status", "--no-renames", "--ignore-submodules=none"])
        .args([from, to, "--"])
        .run()
        .await?;
    let mut differing = Differing { gone: Vec::new(), made: Vec::new(), other: Vec::new() };
    let mut fields = listed.stdout.split(|byte| *byte == 0);
    while let (Some(status), Some(path)) = (fields.next(), fields.next()) {
        let list = match status {
            b"A" => &mut differing.made,
            b"D" => &mut differing.gone,
            _ => &mut differing.other,
        };
        list.push(path.to_vec());
    }
    Ok(differing)
}

/// What stands where a file is to be made: itself, or a file where a folder above it has to be.
fn in_the_way(tree: &Path, path: &[u8]) -> Option<Vec<u8>> {
    let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
    for end in ends.chain([path.len()]) {
        let part = &path[..end];
        let meta = fs::symlink_metadata(tree.join(OsStr::from_bytes(part))).ok()?;
        if end == path.len() || !meta.is_dir() {
            return Some(part.to_vec());
        }
    }
    None
}

/// What the index holds is kept as a checkpoint, unless it is one of the two states.
async fn keep(site: &Site, tree: &str, from: &str, to: &str, lock: &Lock) -> Result<(), WorktreeError> {
    let trees = [from, to].map(|state| format!("{state}^{{tree}}"));
    let known = site.git("read a tree").args(["rev-parse"]).args(trees).run().await?.text();
    if known.lines().any(|known| known == tree) {
        return Ok(());
    }
    let last = checkpoint::latest(site).await?;
    let half = Saved { tree: tree.to_owned(), number: last.number + 1, ..last.clone() };
    checkpoint::commit(site, &half, &last.commit, None, "found on the way", lock).await.map(drop)
}

/// Of what goes, the paths that the rules which are there now ignore: at the time of the state they were there as well, unsaved. Not those
/// that stand where a file has to be.
async fn ignored(site: &Site, differing: &Differing) -> Result<Paths, WorktreeError> {
    let made: HashSet<&[u8]> = differing.made.iter().map(Vec::as_slice).collect();
    let free = |path: &&Vec<u8>| {
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        !ends.map(|end| &path[..end]).any(|above| made.contains(above))
    };
    let gone: Vec<&Vec<u8>> = differing.gone.iter().filter(free).collect();
    if gone.is_empty() {
        return Ok(Vec::new());
    }
    let list = write_list(site, gone.into_iter())?;
    let asked = site.git_on_tree("ask what is ignored").args(["check-ignore", "--no-index", "-z", "--stdin"]);
    let asked = asked.stdin(open(&list)?).outcome().await?;
    files::remove(&list)?;
    match asked.code {
        0 | 1 => Ok(asked
            .stdout
            .split(|byte| *byte == 0)
            .filter(|path| !path.is_empty())
            .map(<[u8]>::to_vec)
            .collect()),
        _ => Err(WorktreeError::Git { what: "ask what is ignored", detail: asked.detail }),
    }
}

/// git's merge of two trees into index and files. It checks all of it first: a file that is not as the index knows it is a refusal.
async fn merge(site: &Site, from: &str, to: &str, lock: &Lock) -> Result<(), WorktreeError> {
    let refresh = site.git_on_tree("look at the files").args(["update-index", "-q", "--refresh"]);
    refresh.holding(lock).long().outcome().await?;
    let merge = site.git_on_tree("bring the files back").args(["read-tree", "-m", "-u", from, to]);
    merge.holding(lock).long().run().await.map(drop)
}

async fn write_tree(site: &Site, lock: &Lock) -> Result<String, WorktreeError> {
    Ok(site.git("write the tree").args(["write-tree"]).holding(lock).run().await?.text())
}

fn is_rules(path: &[u8]) -> bool {
    path.rsplit(|byte| *byte == b'/').next() == Some(b".gitignore")
}

fn write_list<'a>(
    site: &Site,
    paths: impl Iterator<Item = &'a Vec<u8>>,
) -> Result<std::path::PathBuf, WorktreeError> {
    let list = site.private.join("paths.new");
    let bytes: Vec<u8> = paths.flat_map(|path| path.iter().copied().chain([0])).collect();
    files::write(&list, &bytes)?;
    Ok(list)
}

fn open(path: &Path) -> Result<File, WorktreeError> {
    File::open(path).map_err(WorktreeError::io(path))
}
