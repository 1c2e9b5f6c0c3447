//! Drops the refs of old checkpoints. Never the base, never an object.

use super::checkpoint::{index_file, numbered};
use super::error::WorktreeError;
use super::layout::Site;
use super::{INTERRUPTED, files};
use std::collections::HashSet;
use std::fs::File;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long a checkpoint of an interrupted turn stays, whatever came after it.
const INTERRUPTED_KEPT: Duration = Duration::from_secs(30 * 24 * 3600);

/// Keeps the last `keep` (at least the very last) and young interrupted ones.
pub(super) async fn prune(site: &Site, keep: usize) -> Result<usize, WorktreeError> {
    let lock = site.lock().await?;
    let mut all = numbered(site);
    all.sort_unstable_by_key(|(number, _)| std::cmp::Reverse(*number));
    if all.len() <= keep.max(1) {
        return Ok(0);
    }
    let young = young_interrupted(site).await?;
    let old: Vec<_> = all.split_off(keep.max(1));
    let (stay, go): (Vec<_>, Vec<_>) = old.into_iter().partition(|(number, _)| young.contains(number));
    if go.is_empty() {
        return Ok(0);
    }
    let list: String = go
        .iter()
        .map(|(number, commit)| format!("delete {} {commit}\n", site.reference(&number.to_string())))
        .collect();
    let path = site.private.join("refs.new");
    files::write(&path, list.as_bytes())?;
    let git = site.git("drop old checkpoints").args(["update-ref", "--stdin"]).holding(&lock);
    git.stdin(File::open(&path).map_err(WorktreeError::io(&path))?).run().await?;
    files::remove(&path)?;
    drop_indexes(site, all.iter().chain(&stay).map(|(_, commit)| commit.as_str())).await?;
    Ok(go.len())
}

async fn young_interrupted(site: &Site) -> Result<HashSet<u64>, WorktreeError> {
    let prefix = site.reference("");
    let listed = site
        .git("list checkpoints")
        .args(["for-each-ref", "--format=%(refname) %(committerdate:unix) %(subject)", &prefix])
        .run()
        .await?
        .text();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let subject = format!("checkpoint: {INTERRUPTED}");
    let young = |line: &str| {
        let mut words = line.splitn(3, ' ');
        let number = words.next()?.strip_prefix(&prefix)?.parse().ok()?;
        let at = Duration::from_secs(words.next()?.parse().ok()?);
        (words.next()? == subject && now.saturating_sub(at) < INTERRUPTED_KEPT).then_some(number)
    };
    Ok(listed.lines().filter_map(young).collect())
}

/// Removes the kept indexes that no checkpoint left refers to.
async fn drop_indexes(site: &Site, commits: impl Iterator<Item = &str>) -> Result<(), WorktreeError> {
    let mut used = HashSet::new();
    for commit in commits {
        if let super::checkpoint::Index::Kept(number) = super::checkpoint::find(site, commit).await?.index {
            used.insert(index_file(site, number));
        }
    }
    for entry in std::fs::read_dir(&site.private).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let kept = name.strip_prefix("index-").is_some_and(|rest| rest.parse::<u64>().is_ok());
        if kept && !used.contains(&entry.path()) {
            files::remove(&entry.path())?;
        }
    }
    Ok(())
}
