//! A change reaches a new branch of the project, or nothing does.

use super::{all_of, ensured, session, source};
use crate::support::repos::{Repos, commit_all, files, git, picture, try_git, write};
use agentpool::worktree::WorktreeError;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

#[tokio::test]
async fn an_applied_change_is_one_commit_on_a_new_branch_and_nothing_else_moves() {
    let repos = Repos::new();
    let (all, wt) = ensured(&repos, session()).await;
    write(&wt.path, "new.txt", "x\n");
    commit_all(&wt.path, "agent's own");
    write(&wt.path, "a.txt", "one\ntwo\nTHREE\n");
    let after = all.checkpoint(&wt, "after").await.expect("saved");
    write(&repos.user, "a.txt", "the user's own uncommitted work");
    git(&repos.user, &["add", "a.txt"]);
    let (files_before, index) = (files(&repos.user), std::fs::read(repos.user.join(".git/index")).unwrap());
    let done = all
        .apply(&source(&repos), wt.session, &all_of(&wt.base_commit, &after.commit, "fix/it", "Fix it"))
        .await
        .expect("applied");
    assert!(!done.merged);
    assert_eq!(git(&repos.user, &["log", "--format=%s", "main..fix/it"]), "Fix it");
    assert_eq!(git(&repos.user, &["rev-parse", "fix/it^"]), wt.base_commit);
    assert_eq!(git(&repos.user, &["show", "fix/it:a.txt"]), "one\ntwo\nTHREE");
    git(&repos.user, &["fsck", "--strict"]);
    assert_eq!(std::fs::read(repos.user.join(".git/index")).unwrap(), index);
    assert_eq!(git(&repos.user, &["symbolic-ref", "--short", "HEAD"]), "main");
    let mut files_after = files(&repos.user);
    files_after.retain(|path, _| !path.starts_with(repos.user.join(".git")));
    assert!(
        files_before
            .iter()
            .filter(|(path, _)| !path.starts_with(repos.user.join(".git")))
            .eq(files_after.iter())
    );
    assert!(all.risk(&wt).await.expect("risk").is_none());
}

#[tokio::test]
async fn a_change_goes_three_way_onto_a_head_that_moved_and_a_conflict_touches_nothing() {
    let repos = Repos::new();
    let (all, wt) = ensured(&repos, session()).await;
    write(&wt.path, "a.txt", "one\ntwo\nagent\n");
    let after = all.checkpoint(&wt, "after").await.expect("saved");
    write(&repos.user, "a.txt", "one\ntwo\nuser\n");
    write(&repos.user, "theirs.txt", "t\n");
    // Amended, so that the base is no ancestor of HEAD any more.
    git(&repos.user, &["add", "-A"]);
    git(&repos.user, &["commit", "-q", "--amend", "-m", "moved"]);
    write(&repos.user, "b.txt", "between\n");
    let head = commit_all(&repos.user, "moved again");
    write(&wt.path, "src/b.txt", "agent\n");
    let apply = |branch: &'static str, to: String| {
        let (all, id, base, project) = (all.clone(), wt.session, wt.base_commit.clone(), source(&repos));
        async move { all.apply(&project, id, &all_of(&base, &to, branch, "m")).await }
    };
    let conflicting = apply("conflicting", after.commit.clone()).await;
    assert!(
        matches!(&conflicting, Err(WorktreeError::Conflict { paths }) if paths == &["a.txt"]),
        "{conflicting:?}"
    );
    assert!(!try_git(&repos.user, &["rev-parse", "-q", "--verify", "conflicting"]).status.success());
    all.restore(&wt, &wt.base_commit).await.expect("restored");
    write(&wt.path, "src/b.txt", "agent\n");
    let clean = all.checkpoint(&wt, "clean").await.expect("saved");
    let done = apply("clean", clean.commit).await.expect("applied");
    assert!(done.merged && done.onto == head);
    assert_eq!(git(&repos.user, &["show", "clean:src/b.txt"]), "agent");
    assert_eq!(git(&repos.user, &["show", "clean:a.txt"]), "one\ntwo\nuser");
    assert_eq!(git(&repos.user, &["status", "--porcelain"]), "");
}

#[tokio::test]
async fn a_conflict_leaves_the_project_byte_identical() {
    let repos = Repos::new();
    let (all, wt) = ensured(&repos, session()).await;
    write(&wt.path, "a.txt", "agent\n");
    let after = all.checkpoint(&wt, "after").await.expect("saved");
    write(&repos.user, "a.txt", "user\n");
    commit_all(&repos.user, "user");
    let before = picture(&repos.user);
    let refused =
        all.apply(&source(&repos), wt.session, &all_of(&wt.base_commit, &after.commit, "b", "m")).await;
    assert!(matches!(refused, Err(WorktreeError::Conflict { .. })), "{refused:?}");
    assert!(picture(&repos.user) == before);
}

#[tokio::test]
async fn f83_apply_refuses_a_branch_that_exists_and_a_change_that_is_none() {
    let repos = Repos::new();
    let (all, wt) = ensured(&repos, session()).await;
    let same = all.checkpoint(&wt, "same").await.expect("saved");
    let none = all.apply(&source(&repos), wt.session, &all_of(&wt.base_commit, &same.commit, "x", "m")).await;
    assert!(matches!(none, Err(WorktreeError::NothingToApply)), "{none:?}");
    write(&wt.path, "new", "n");
    let after = all.checkpoint(&wt, "after").await.expect("saved");
    git(&repos.user, &["branch", "deep/er"]);
    let before = picture(&repos.user);
    for branch in ["main", "main/x", "deep", "--force", "../x"] {
        let refused = all
            .apply(&source(&repos), wt.session, &all_of(&wt.base_commit, &after.commit, branch, "m"))
            .await;
        assert!(matches!(refused, Err(WorktreeError::BranchUnusable { .. })), "{branch}: {refused:?}");
    }
    assert!(picture(&repos.user) == before, "not even objects are left there");
}

#[tokio::test]
async fn a_branch_in_a_repository_of_another_account_belongs_to_that_account() {
    let repos = Repos::new();
    std::fs::set_permissions(repos.dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    // Only root can write as somebody else; for others the account is their own, and the promise is the same.
    if nix::unistd::geteuid().is_root() {
        let owned = std::process::Command::new("chown").args(["-R", "nobody"]).arg(&repos.user).status();
        assert!(owned.unwrap().success());
    }
    let (all, wt) = ensured(&repos, session()).await;
    write(&wt.path, "new", "n");
    let after = all.checkpoint(&wt, "after").await.expect("saved");
    all.apply(&source(&repos), wt.session, &all_of(&wt.base_commit, &after.commit, "theirs", "m"))
        .await
        .expect("applied");
    let owner = std::fs::metadata(&repos.user).unwrap().uid();
    for path in picture(&repos.user).keys() {
        assert_eq!(std::fs::symlink_metadata(path).unwrap().uid(), owner, "{path:?}");
    }
}
