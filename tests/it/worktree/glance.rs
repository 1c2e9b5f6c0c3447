//! The cheap look that spares git's: it must see whatever git would see, and cost nothing where nothing happened.

use super::{ensured, session};
use crate::support::repos::{Repos, files, git, write};
use agentpool::worktree::{Checkpoint, Worktree, Worktrees};
use nix::sys::stat::{UtimensatFlags, utimensat};
use nix::sys::time::TimeSpec;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What somebody does to a worktree.
type Change = fn(&Path);

#[tokio::test]
async fn an_untouched_worktree_is_saved_without_git_and_an_ignored_file_does_not_count_as_a_touch() {
    let repos = Repos::new();
    let (all, wt) = ensured(&repos, session()).await;
    write(&wt.path, "ignored/big/x", "no");
    let saved = seen(&all, &wt).await;
    write(&wt.path, "ignored/big/y", "no");
    // A git that reads this fails.
    let config = repos.data.join("git/config");
    let whole = fs::read(&config).unwrap();
    fs::write(&config, "[broken").unwrap();
    let again = all.checkpoint(&wt, "again").await.expect("no git is needed");
    assert!(again.reused && again.commit == saved.commit);
    write(&wt.path, "a.txt", "changed\n");
    all.checkpoint(&wt, "changed").await.expect_err("git is asked, and cannot answer");
    fs::write(&config, whole).unwrap();
    assert!(!all.checkpoint(&wt, "changed").await.expect("saved").reused);
}

#[tokio::test]
async fn every_kind_of_change_is_seen_after_a_look_that_saw_none() {
    let repos = Repos::new();
    write(&repos.user, "ignored/tracked.txt", "one\n");
    git(&repos.user, &["add", "-f", "ignored/tracked.txt"]);
    git(&repos.user, &["commit", "-q", "-m", "one that is tracked all the same"]);
    let (all, wt) = ensured(&repos, session()).await;
    write(&wt.path, "ignored/x", "x");
    let changes: [(&str, Change); 8] = [
        ("a tracked file below what is ignored", |tree| write(tree, "ignored/tracked.txt", "two\n")),
        ("content of the same length, with the old time set again", |tree| {
            let file = tree.join("a.txt");
            let old = fs::metadata(&file).unwrap();
            fs::write(&file, "ONE\ntwo\nthree\n").unwrap();
            let time = TimeSpec::new(old.mtime(), old.mtime_nsec());
            utimensat(nix::fcntl::AT_FDCWD, &file, &time, &time, UtimensatFlags::NoFollowSymlink).unwrap();
        }),
        ("a mode", |tree| fs::set_permissions(tree.join("a.txt"), Permissions::from_mode(0o755)).unwrap()),
        ("a new file deep in a new folder", |tree| write(tree, "deep/er/new.txt", "new")),
        ("a name", |tree| fs::rename(tree.join("deep/er/new.txt"), tree.join("deep/er/other.txt")).unwrap()),
        ("a link in place of a file", |tree| {
            fs::remove_file(tree.join("src/b.txt")).unwrap();
            std::os::unix::fs::symlink("../a.txt", tree.join("src/b.txt")).unwrap();
        }),
        ("what is ignored", |tree| write(tree, ".gitignore", "*.log\n")),
        ("a folder that goes", |tree| fs::remove_dir_all(tree.join("deep")).unwrap()),
    ];
    for (what, change) in changes {
        let before = seen(&all, &wt).await;
        change(&wt.path);
        let saved = all.checkpoint(&wt, what).await.expect("saved");
        assert!(!saved.reused && saved.tree != before.tree, "{what} was not seen");
    }
}

#[tokio::test]
async fn a_repository_that_appears_in_a_known_folder_is_named_each_time() {
    let repos = Repos::new();
    let (all, wt) = ensured(&repos, session()).await;
    fs::create_dir(wt.path.join("nested")).unwrap();
    seen(&all, &wt).await;
    git(&wt.path.join("nested"), &["init", "-q"]);
    write(&wt.path, "nested/inner.txt", "x");
    for label in ["first", "second"] {
        settled(&wt.path).await;
        let saved = all.checkpoint(&wt, label).await.expect("saved");
        assert!(saved.notices.iter().any(|notice| notice.contains("nested/")), "{label}: {saved:?}");
    }
}

/// Takes a checkpoint whose look the next one is compared with.
async fn seen(all: &Worktrees, wt: &Worktree) -> Checkpoint {
    settled(&wt.path).await;
    // The first may find something that is ignored, which the second then knows.
    all.checkpoint(wt, "seen").await.expect("saved");
    all.checkpoint(wt, "seen").await.expect("saved")
}

/// Waits until the newest change in a folder is old enough for a look to be kept.
async fn settled(tree: &Path) {
    let newest = || files(tree).into_keys().map(|path| changed_at(&path)).max().unwrap_or_default();
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    while now() < newest() + Duration::from_millis(2_100) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn changed_at(path: &Path) -> Duration {
    let meta = fs::symlink_metadata(path).unwrap();
    Duration::new(meta.ctime().try_into().unwrap(), meta.ctime_nsec().try_into().unwrap())
}
