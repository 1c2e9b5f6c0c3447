//! A restore brings back what was saved and takes nothing that was not.

use super::{ensured, session};
use crate::support::repos::{Repos, commit_all, files, git, read, try_git, write};
use agentpool::worktree::{INTERRUPTED, WorktreeError};
use std::os::unix::fs::PermissionsExt;

#[tokio::test]
async fn a_restore_brings_files_head_branch_and_index_back_and_leaves_ignored_files() {
    let repos = Repos::new();
    let (all, wt) = ensured(&repos, session()).await;
    write(&wt.path, "a.txt", "staged\n");
    git(&wt.path, &["add", "a.txt"]);
    write(&wt.path, "a.txt", "and more\n");
    write(&wt.path, "untracked.txt", "u\n");
    write(&wt.path, "ignored/keep", "before");
    let before = all.checkpoint(&wt, "before").await.expect("saved");
    let (state, status) = (files(&wt.path), git(&wt.path, &["status", "--porcelain"]));
    let (head, staged) = (git(&wt.path, &["rev-parse", "HEAD"]), git(&wt.path, &["diff", "--cached"]));
    git(&wt.path, &["checkout", "-q", "-b", "feature"]);
    write(&wt.path, "other/new.txt", "n");
    std::fs::remove_file(wt.path.join("src/b.txt")).unwrap();
    std::fs::remove_file(wt.path.join("untracked.txt")).unwrap();
    std::fs::set_permissions(wt.path.join("a.txt"), std::fs::Permissions::from_mode(0o755)).unwrap();
    commit_all(&wt.path, "moved");
    all.checkpoint(&wt, INTERRUPTED).await.expect("saved");
    all.restore(&wt, &before.commit).await.expect("restored");
    assert_eq!(files(&wt.path), state);
    assert_eq!(git(&wt.path, &["symbolic-ref", "--short", "HEAD"]), wt.branch);
    assert_eq!(git(&wt.path, &["rev-parse", "HEAD"]), head);
    assert_eq!(git(&wt.path, &["status", "--porcelain"]), status);
    assert_eq!(git(&wt.path, &["diff", "--cached"]), staged);
    let next = all.checkpoint(&wt, "next").await.expect("saved");
    assert_eq!(next.tree, before.tree);
}

#[tokio::test]
async fn a_restore_ends_a_conflicting_merge_and_one_to_it_brings_its_unmerged_index_back() {
    let repos = Repos::new();
    let (all, wt) = ensured(&repos, session()).await;
    let clean = all.checkpoint(&wt, "clean").await.expect("saved");
    git(&wt.path, &["checkout", "-q", "-b", "side"]);
    write(&wt.path, "a.txt", "side\n");
    commit_all(&wt.path, "side");
    git(&wt.path, &["checkout", "-q", &wt.branch]);
    write(&wt.path, "a.txt", "main\n");
    commit_all(&wt.path, "main");
    assert!(!try_git(&wt.path, &["merge", "side"]).status.success());
    let unmerged = git(&wt.path, &["ls-files", "-u"]);
    let merging = all.checkpoint(&wt, INTERRUPTED).await.expect("saved");
    all.restore(&wt, &clean.commit).await.expect("restored");
    assert_eq!(git(&wt.path, &["status", "--porcelain"]), "");
    assert!(!git(&wt.path, &["status"]).contains("merg"));
    assert_eq!(git(&wt.path, &["rev-parse", "HEAD"]), wt.base_commit);
    all.restore(&wt, &merging.commit).await.expect("restored");
    assert_eq!(git(&wt.path, &["ls-files", "-u"]), unmerged);
    assert!(read(&wt.path, "a.txt").unwrap().contains("<<<<<<<"));
}

#[tokio::test]
async fn a_file_that_was_ignored_then_or_is_now_survives_a_restore() {
    let repos = Repos::new();
    let (all, wt) = ensured(&repos, session()).await;
    write(&wt.path, "ignored/secret", "kept");
    let before = all.checkpoint(&wt, "before").await.expect("saved");
    write(&wt.path, ".gitignore", "build/\n");
    write(&wt.path, "build/out", "o");
    all.checkpoint(&wt, INTERRUPTED).await.expect("saved");
    all.restore(&wt, &before.commit).await.expect("restored");
    assert_eq!(read(&wt.path, "ignored/secret").as_deref(), Some("kept"));
    assert_eq!(read(&wt.path, "build/out").as_deref(), Some("o"));
    assert_eq!(read(&wt.path, ".gitignore").as_deref(), Some("ignored/\n*.log\n"));
}

#[tokio::test]
async fn only_a_checkpoint_of_the_same_session_can_be_restored() {
    let repos = Repos::new();
    let (all, one) = ensured(&repos, session()).await;
    let (_, two) = ensured(&repos, session()).await;
    write(&two.path, "x", "x");
    let foreign = all.checkpoint(&two, "x").await.expect("saved");
    let before = files(&one.path);
    for commit in [foreign.commit.as_str(), "HEAD", "--help", ""] {
        let refused = all.restore(&one, commit).await;
        assert!(matches!(refused, Err(WorktreeError::NotOurs { .. })), "{commit}: {refused:?}");
    }
    assert!(files(&one.path) == before);
    all.restore(&one, &one.base_commit).await.expect("the base is its own");
}

#[tokio::test]
async fn an_empty_worktree_can_be_saved_compared_and_restored() {
    let repos = Repos::new();
    let (all, wt) = ensured(&repos, session()).await;
    let state = files(&wt.path);
    for name in ["a.txt", "src", ".gitignore"] {
        let path = wt.path.join(name);
        if path.is_dir() {
            std::fs::remove_dir_all(path).unwrap()
        } else {
            std::fs::remove_file(path).unwrap()
        }
    }
    let saved = all.checkpoint(&wt, "empty").await.expect("saved");
    assert_eq!(all.changes(&wt, &wt.base_commit, &saved.commit).await.expect("changes").len(), 3);
    all.restore(&wt, &wt.base_commit).await.expect("restored");
    assert_eq!(files(&wt.path), state);
}

#[tokio::test]
async fn f83_a_branch_that_another_session_took_or_that_is_in_the_way_costs_no_restore() {
    let repos = Repos::new();
    let (all, one) = ensured(&repos, session()).await;
    let (_, two) = ensured(&repos, session()).await;
    git(&one.path, &["checkout", "-q", "-b", "shared"]);
    let saved = all.checkpoint(&one, "on shared").await.expect("saved");
    git(&one.path, &["checkout", "-q", &one.branch]);
    git(&two.path, &["checkout", "-q", "shared"]);
    write(&two.path, "two.txt", "2");
    let theirs = commit_all(&two.path, "two's");
    all.restore(&one, &saved.commit).await.expect("restored");
    assert_eq!(git(&two.path, &["rev-parse", "shared"]), theirs);
    assert_eq!(git(&one.path, &["rev-parse", "HEAD"]), one.base_commit);
    git(&one.path, &["checkout", "-q", "--detach"]);
    git(&one.path, &["branch", "-q", "-D", &one.branch]);
    git(&one.path, &["branch", "-q", &format!("{}/below", one.branch)]);
    for packed in [false, true] {
        if packed {
            git(&one.path, &["pack-refs", "--all"]);
        }
        all.restore(&one, &one.base_commit).await.expect("restored");
        assert_eq!(git(&one.path, &["rev-parse", "HEAD"]), one.base_commit);
        git(&one.path, &["fsck"]);
    }
}
