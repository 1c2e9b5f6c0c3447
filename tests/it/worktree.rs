//! Worktrees on real git: what a kill, a person or a hostile agent does to them, nothing is lost and nothing runs.

use crate::support::repos::{Repos, commit_all, files, git, picture, read, try_git, write};
use agentpool::domain::change::{ChangeOperation, DIFF_BYTES_MAX, FileChange};
use agentpool::domain::failure::FailureReason;
use agentpool::domain::ids::SessionId;
use agentpool::worktree::{
    INTERRUPTED, ProjectSource, RemoveMode, Removed, Worktree, WorktreeError, Worktrees,
};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

fn session() -> SessionId {
    SessionId(uuid::Uuid::now_v7())
}

fn source(repos: &Repos) -> ProjectSource {
    ProjectSource::Path(repos.user.clone())
}

async fn ensured(repos: &Repos, id: SessionId) -> (Worktrees, Worktree) {
    let all = Worktrees::new(repos.data.clone());
    let wt = all.ensure(&source(repos), id).await.expect("a worktree");
    (all, wt)
}

fn hub_of(wt: &Worktree) -> PathBuf {
    let text = std::fs::read_to_string(wt.path.join(".git")).expect(".git");
    let admin = PathBuf::from(text.trim().strip_prefix("gitdir: ").expect("a pointer"));
    admin.parent().and_then(Path::parent).expect("the hub").to_owned()
}

fn ours_of(wt: &Worktree) -> PathBuf {
    hub_of(wt).with_file_name("ours.git")
}

fn change<'a>(changes: &'a [FileChange], path: &str) -> &'a FileChange {
    changes.iter().find(|change| change.path == path).unwrap_or_else(|| panic!("no {path} in {changes:#?}"))
}

#[tokio::test]
async fn a_worktree_is_the_projects_head_on_a_branch_of_its_own_without_an_origin() {
    let repos = Repos::new();
    let head = git(&repos.user, &["rev-parse", "HEAD"]);
    let (_, wt) = ensured(&repos, session()).await;
    assert_eq!(wt.base_commit, head);
    assert_eq!(read(&wt.path, "a.txt").as_deref(), Some("one\ntwo\nthree\n"));
    assert_eq!(git(&wt.path, &["rev-parse", "HEAD"]), head);
    assert_eq!(git(&wt.path, &["symbolic-ref", "--short", "HEAD"]), wt.branch);
    assert_eq!(git(&wt.path, &["status", "--porcelain"]), "");
    assert_eq!(git(&wt.path, &["remote"]), "");
    assert!(git(&wt.path, &["worktree", "list", "--porcelain"]).contains("locked"));
    assert_eq!(git(&wt.path, &["fsck", "--strict"]), "");
    git(&wt.path, &["worktree", "prune"]);
    assert!(!ours_of(&wt).join("objects/info/alternates").exists());
}

#[tokio::test]
async fn ensuring_again_changes_nothing_and_says_nothing() {
    let repos = Repos::new();
    let (all, first) = ensured(&repos, session()).await;
    write(&first.path, "new.txt", "work");
    let before = (picture(&first.path), picture(&hub_of(&first)));
    let second = all.ensure(&source(&repos), first.session).await.expect("the same");
    assert_eq!(
        (second.path.clone(), second.base_commit.clone(), second.branch.clone()),
        (first.path.clone(), first.base_commit.clone(), first.branch.clone())
    );
    assert_eq!(second.notices, Vec::<String>::new());
    assert!((picture(&first.path), picture(&hub_of(&first))) == before);
}

#[tokio::test]
async fn the_base_of_a_session_stays_when_the_project_moves_on() {
    let repos = Repos::new();
    let (all, first) = ensured(&repos, session()).await;
    write(&repos.user, "later.txt", "x");
    let later = commit_all(&repos.user, "later");
    assert_eq!(
        all.ensure(&source(&repos), first.session).await.expect("same").base_commit,
        first.base_commit
    );
    let other = all.ensure(&source(&repos), session()).await.expect("another");
    assert_eq!(other.base_commit, later);
    assert!(other.path.join("later.txt").exists());
}

#[tokio::test]
async fn uncommitted_work_of_the_project_is_left_out_and_named() {
    let repos = Repos::new();
    write(&repos.user, "a.txt", "dirty");
    let before = picture(&repos.user);
    let (_, wt) = ensured(&repos, session()).await;
    assert_eq!(read(&wt.path, "a.txt").as_deref(), Some("one\ntwo\nthree\n"));
    assert!(wt.notices.iter().any(|n| n.contains("uncommitted")), "{:?}", wt.notices);
    assert!(picture(&repos.user) == before);
}

#[tokio::test]
async fn f84_every_kind_of_repository_is_taken_or_refused_with_what_to_do() {
    let repos = Repos::new();
    let all = Worktrees::new(repos.data.clone());
    let root = repos.dir.path().canonicalize().unwrap();
    let head = git(&repos.user, &["rev-parse", "HEAD"]);
    git(&root, &["clone", "-q", "--bare", "user", "bare.git"]);
    git(&repos.user, &["worktree", "add", "-q", "--detach", "../linked"]);
    write(&root.join("linked"), "in-linked.txt", "x");
    let linked_head = commit_all(&root.join("linked"), "linked");
    for (folder, base) in [("bare.git", &head), ("linked", &linked_head), ("user/src", &head)] {
        let wt = all.ensure(&ProjectSource::Path(root.join(folder)), session()).await.expect(folder);
        assert_eq!(&wt.base_commit, base, "{folder}");
        assert!(wt.path.join("a.txt").exists(), "{folder}");
        assert_eq!(wt.notices.iter().any(|n| n.contains("whole repository")), folder == "user/src");
    }
    std::fs::create_dir(root.join("empty")).unwrap();
    std::fs::create_dir(root.join("unborn")).unwrap();
    git(&root.join("unborn"), &["init", "-q"]);
    write(&root, "file", "");
    for (bad, word) in
        [("empty", "git init"), ("unborn", "first commit"), ("missing", "check the path"), ("file", "folder")]
    {
        let err = all.ensure(&ProjectSource::Path(root.join(bad)), session()).await.expect_err(bad);
        assert_eq!(err.reason(), FailureReason::ProjectUnusable, "{bad}: {err}");
        assert!(err.to_string().contains(word), "{bad}: {err}");
    }
    let err = all.ensure(&ProjectSource::Url("ext::sh -c true".into()), session()).await.expect_err("ext");
    assert_eq!(err.reason(), FailureReason::ProjectUnusable);
}

#[tokio::test]
async fn a_clone_url_is_fetched_and_a_change_is_pushed_to_a_new_branch_there() {
    let repos = Repos::new();
    let root = repos.dir.path().canonicalize().unwrap();
    git(&root, &["clone", "-q", "--bare", "user", "remote.git"]);
    let url = ProjectSource::Url(format!("file://{}", root.join("remote.git").display()));
    let all = Worktrees::new(repos.data.clone());
    let wt = all.ensure(&url, session()).await.expect("cloned");
    write(&wt.path, "new.txt", "x\n");
    let after = all.checkpoint(&wt, "after").await.expect("saved");
    let done = all
        .apply(&url, wt.session, &wt.base_commit, &after.commit, "fix/it", "Fix it")
        .await
        .expect("pushed");
    assert_eq!(git(&root.join("remote.git"), &["rev-parse", "fix/it"]), done.commit);
    let again = all.apply(&url, wt.session, &wt.base_commit, &after.commit, "fix/it", "Fix it again").await;
    assert!(matches!(again, Err(WorktreeError::BranchUnusable { .. })), "{again:?}");
}

#[tokio::test]
async fn a_repository_in_sha256_works_as_well() {
    let repos = Repos::new();
    let user = repos.dir.path().canonicalize().unwrap().join("sha256");
    std::fs::create_dir(&user).unwrap();
    git(&user, &["init", "-q", "--object-format=sha256"]);
    write(&user, "a.txt", "a\n");
    commit_all(&user, "first");
    let all = Worktrees::new(repos.data.clone());
    let wt = all.ensure(&ProjectSource::Path(user), session()).await.expect("a worktree");
    write(&wt.path, "a.txt", "b\n");
    let saved = all.checkpoint(&wt, "x").await.expect("saved");
    assert_eq!(saved.commit.len(), 64);
    assert_eq!(all.changes(&wt, &wt.base_commit, &saved.commit).await.expect("changes").len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f85_ninety_six_worktrees_at_once_in_one_project_all_succeed() {
    let repos = Repos::new();
    let mut work = tokio::task::JoinSet::new();
    for n in 0..96 {
        // Half of them through a `Worktrees` of their own: what another process would do.
        let all = Worktrees::new(repos.data.clone());
        let project = source(&repos);
        let id = session();
        work.spawn(async move {
            let wt = all.ensure(&project, id).await?;
            write(&wt.path, "own.txt", &n.to_string());
            all.checkpoint(&wt, "own").await.map(|saved| (wt, saved, n))
        });
    }
    let mut branches = std::collections::HashSet::new();
    while let Some(made) = work.join_next().await {
        let (wt, saved, n) = made.expect("no panic").expect("a worktree");
        assert!(branches.insert(wt.branch.clone()));
        assert_eq!(git(&ours_of(&wt), &["show", &format!("{}:own.txt", saved.commit)]), n.to_string());
        assert_eq!(git(&wt.path, &["status", "--porcelain"]), "?? own.txt");
    }
    assert_eq!(branches.len(), 96);
}

#[tokio::test]
async fn the_same_session_ensured_at_once_is_made_once() {
    let repos = Repos::new();
    let id = session();
    let made = futures::future::join_all((0..16).map(|_| ensured(&repos, id))).await;
    assert!(made.iter().all(|(_, wt)| wt.path == made[0].1.path));
    assert_eq!(git(&made[0].1.path, &["status", "--porcelain"]), "");
}

#[tokio::test]
async fn a_checkpoint_holds_tracked_and_untracked_files_and_not_ignored_ones() {
    let repos = Repos::new();
    let (all, wt) = ensured(&repos, session()).await;
    write(&wt.path, "a.txt", "changed\n");
    write(&wt.path, "deep/new file.txt", "new\n");
    write(&wt.path, "ignored/x", "no");
    std::fs::remove_file(wt.path.join("src/b.txt")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", wt.path.join("link")).unwrap();
    let saved = all.checkpoint(&wt, "after\nNumber: 7").await.expect("saved");
    let listed = git(&ours_of(&wt), &["ls-tree", "-r", "--name-only", &saved.commit]);
    assert_eq!(listed.lines().collect::<Vec<_>>(), [".gitignore", "a.txt", "deep/new file.txt", "link"]);
    assert_eq!(git(&ours_of(&wt), &["show", &format!("{}:link", saved.commit)]), "/etc/passwd");
    let message = git(&ours_of(&wt), &["log", "-1", "--format=%B", &saved.commit]);
    assert!(message.contains("\nNumber: 1\n") && !message.contains("\nNumber: 7"), "{message}");
    assert_eq!(git(&wt.path, &["status", "--porcelain", "src"]), "D src/b.txt".replacen('D', " D", 1));
}

#[tokio::test]
async fn an_unchanged_worktree_gives_the_checkpoint_before_and_says_so() {
    let repos = Repos::new();
    let (all, wt) = ensured(&repos, session()).await;
    let first = all.checkpoint(&wt, "first").await.expect("saved");
    git(&wt.path, &["status"]);
    let second = all.checkpoint(&wt, "second").await.expect("saved");
    assert!(!first.reused && second.reused);
    assert_eq!(first.commit, second.commit);
    git(&wt.path, &["commit", "-q", "--allow-empty", "-m", "only HEAD moves"]);
    let third = all.checkpoint(&wt, "third").await.expect("saved");
    assert!(!third.reused);
    assert_eq!(third.tree, first.tree);
    let parents = git(&ours_of(&wt), &["log", "-1", "--format=%P", &third.commit]);
    assert_eq!(parents, format!("{} {}", first.commit, git(&wt.path, &["rev-parse", "HEAD"])));
}

#[tokio::test]
async fn what_an_agent_commits_is_safe_in_ours_when_the_hub_is_gone() {
    let repos = Repos::new();
    let (all, wt) = ensured(&repos, session()).await;
    write(&wt.path, "c.txt", "committed\n");
    let head = commit_all(&wt.path, "agent's");
    let saved = all.checkpoint(&wt, "x").await.expect("saved");
    assert_eq!(saved.notices, Vec::<String>::new());
    std::fs::remove_dir_all(hub_of(&wt)).unwrap();
    let again = all.ensure(&source(&repos), wt.session).await.expect("repaired");
    assert_eq!(git(&again.path, &["rev-parse", "HEAD"]), head);
    assert_eq!(git(&again.path, &["status", "--porcelain"]), "");
    git(&again.path, &["fsck", "--strict"]);
}

#[tokio::test]
async fn nested_repositories_are_named_and_neither_saved_nor_opened_nor_removed() {
    let repos = Repos::new();
    let (all, wt) = ensured(&repos, session()).await;
    let before = all.checkpoint(&wt, "before").await.expect("saved");
    let nested = wt.path.join("nested");
    std::fs::create_dir(&nested).unwrap();
    git(&nested, &["init", "-q"]);
    let marker = repos.dir.path().join("marker");
    git(&nested, &["config", "core.fsmonitor", &format!("touch {}", marker.display())]);
    write(&nested, "inner.txt", "x");
    write(&wt.path, "outer.txt", "x");
    let saved = all.checkpoint(&wt, "after").await.expect("saved");
    assert!(saved.notices.iter().any(|n| n.contains("nested/")), "{:?}", saved.notices);
    assert!(!git(&ours_of(&wt), &["ls-tree", "-r", "--name-only", &saved.commit]).contains("nested"));
    all.restore(&wt, &before.commit).await.expect("restored");
    assert!(nested.join("inner.txt").exists() && !wt.path.join("outer.txt").exists());
    assert!(!marker.exists());
    assert!(all.risk(&wt).await.expect("risk").dirty.contains(&"nested/".to_owned()));
}

#[tokio::test]
async fn a_submodule_keeps_its_commit_and_its_configuration_does_not_run() {
    let repos = Repos::new();
    let root = repos.dir.path().canonicalize().unwrap();
    git(&root, &["clone", "-q", "user", "lib"]);
    git(&repos.user, &["-c", "protocol.file.allow=always", "submodule", "--quiet", "add", "../lib", "lib"]);
    commit_all(&repos.user, "submodule");
    let (all, wt) = ensured(&repos, session()).await;
    let marker = root.join("marker");
    std::fs::remove_dir_all(wt.path.join("lib")).unwrap();
    git(&wt.path, &["clone", "-q", root.join("lib").to_str().unwrap(), "lib"]);
    git(&wt.path.join("lib"), &["config", "core.fsmonitor", &format!("touch {}", marker.display())]);
    write(&wt.path, "lib/a.txt", "changed");
    write(&wt.path, "x.txt", "x");
    let saved = all.checkpoint(&wt, "x").await.expect("saved");
    all.restore(&wt, &saved.commit).await.expect("restored");
    assert!(!marker.exists());
    let entry = |commit: &str| git(&ours_of(&wt), &["ls-tree", commit, "lib"]);
    assert_eq!(entry(&saved.commit), entry(&wt.base_commit));
}

#[tokio::test]
async fn a_file_above_the_limit_is_left_out_named_and_left_alone() {
    let repos = Repos::new();
    let (all, wt) = ensured(&repos, session()).await;
    let before = all.checkpoint(&wt, "before").await.expect("saved");
    let huge = std::fs::File::create(wt.path.join("huge [1].bin")).unwrap();
    huge.set_len(agentpool::worktree::FILE_BYTES_MAX + 1).unwrap();
    write(&wt.path, "small.txt", "x");
    let saved = all.checkpoint(&wt, "after").await.expect("saved");
    assert!(saved.notices.iter().any(|n| n.contains("huge [1].bin")));
    assert_eq!(git(&ours_of(&wt), &["ls-tree", "-r", "--name-only", &saved.commit]).lines().count(), 4);
    all.restore(&wt, &before.commit).await.expect("restored");
    assert!(wt.path.join("huge [1].bin").exists() && !wt.path.join("small.txt").exists());
}

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
async fn changes_tell_every_kind_of_change_and_every_kind_of_name() {
    let repos = Repos::new();
    for (name, text) in [("gone.txt", "g\n"), ("mode.sh", "#!/bin/sh\n"), ("kind", "k\n"), ("bin", "x\0y")] {
        write(&repos.user, name, text);
    }
    write(&repos.user, "old name.txt", &"line\n".repeat(20));
    commit_all(&repos.user, "more");
    let (all, wt) = ensured(&repos, session()).await;
    write(&wt.path, "a.txt", "one\n2\nthree\ndiff --git a/x b/x\n");
    write(&wt.path, "tab\tquote\"new\nline.txt", "n\n");
    write(&wt.path, "bin", "x\0z");
    write(&wt.path, "large.txt", &"0123456789\n".repeat(DIFF_BYTES_MAX / 10));
    std::fs::write(wt.path.join(std::ffi::OsStr::from_bytes(b"latin\xe9.txt")), b"caf\xe9\n").unwrap();
    std::fs::remove_file(wt.path.join("gone.txt")).unwrap();
    std::fs::rename(wt.path.join("old name.txt"), wt.path.join("new name.txt")).unwrap();
    std::fs::set_permissions(wt.path.join("mode.sh"), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::remove_file(wt.path.join("kind")).unwrap();
    std::os::unix::fs::symlink("a.txt", wt.path.join("kind")).unwrap();
    let saved = all.checkpoint(&wt, "after").await.expect("saved");
    let changes = all.changes(&wt, &wt.base_commit, &saved.commit).await.expect("changes");
    assert_eq!(changes.len(), 9, "{changes:#?}");
    let edit = change(&changes, "a.txt");
    assert_eq!((edit.operation, edit.additions, edit.deletions), (ChangeOperation::Modify, 2, 1));
    assert!(edit.diff.as_deref().unwrap().contains("+diff --git a/x b/x"));
    let odd = change(&changes, "tab\tquote\"new\nline.txt");
    assert_eq!(
        (odd.operation, odd.old_mode.as_deref(), odd.new_mode.as_deref()),
        (ChangeOperation::Create, None, Some("100644"))
    );
    assert!(odd.diff.as_deref().unwrap().ends_with("+n\n"));
    let bin = change(&changes, "bin");
    assert!(bin.binary && bin.diff.is_none());
    let large = change(&changes, "large.txt");
    assert!(large.diff.is_none() && !large.binary && large.additions > 100_000);
    let latin = change(&changes, "latin\u{FFFD}.txt");
    assert_eq!(latin.path_raw.as_deref(), Some(&b"latin\xe9.txt"[..]));
    assert!(latin.diff.as_deref().unwrap().contains("+caf\u{FFFD}"));
    let gone = change(&changes, "gone.txt");
    assert_eq!(
        (gone.operation, gone.new_mode.as_deref(), gone.new_blob.as_deref()),
        (ChangeOperation::Delete, None, None)
    );
    let moved = change(&changes, "new name.txt");
    assert_eq!((moved.operation, moved.old_path.as_deref()), (ChangeOperation::Rename, Some("old name.txt")));
    assert!(moved.diff.as_deref().unwrap().contains("rename from old name.txt"));
    let mode = change(&changes, "mode.sh");
    assert_eq!((mode.old_mode.as_deref(), mode.new_mode.as_deref()), (Some("100644"), Some("100755")));
    let kind = change(&changes, "kind").diff.as_deref().unwrap();
    assert!(kind.contains("deleted file mode 100644") && kind.contains("new file mode 120000"), "{kind}");
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
        .apply(&source(&repos), wt.session, &wt.base_commit, &after.commit, "fix/it", "Fix it")
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
        async move { all.apply(&project, id, &base, &to, branch, "m").await }
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
    let refused = all.apply(&source(&repos), wt.session, &wt.base_commit, &after.commit, "b", "m").await;
    assert!(matches!(refused, Err(WorktreeError::Conflict { .. })), "{refused:?}");
    assert!(picture(&repos.user) == before);
}

#[tokio::test]
async fn apply_refuses_a_branch_that_exists_and_a_change_that_is_none() {
    let repos = Repos::new();
    let (all, wt) = ensured(&repos, session()).await;
    let same = all.checkpoint(&wt, "same").await.expect("saved");
    let none = all.apply(&source(&repos), wt.session, &wt.base_commit, &same.commit, "x", "m").await;
    assert!(matches!(none, Err(WorktreeError::NothingToApply)), "{none:?}");
    write(&wt.path, "new", "n");
    let after = all.checkpoint(&wt, "after").await.expect("saved");
    let main = git(&repos.user, &["rev-parse", "main"]);
    for branch in ["main", "main/x", "--force", "../x"] {
        let refused =
            all.apply(&source(&repos), wt.session, &wt.base_commit, &after.commit, branch, "m").await;
        assert!(matches!(refused, Err(WorktreeError::BranchUnusable { .. })), "{branch}: {refused:?}");
    }
    assert_eq!(git(&repos.user, &["rev-parse", "main"]), main);
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
    all.apply(&source(&repos), wt.session, &wt.base_commit, &after.commit, "theirs", "m")
        .await
        .expect("applied");
    let owner = std::fs::metadata(&repos.user).unwrap().uid();
    for path in picture(&repos.user).keys() {
        assert_eq!(std::fs::symlink_metadata(path).unwrap().uid(), owner, "{path:?}");
    }
}

#[tokio::test]
async fn f81_what_is_dirty_or_unmerged_is_kept_unless_forced_and_then_still_saved() {
    let repos = Repos::new();
    let (all, wt) = ensured(&repos, session()).await;
    write(&wt.path, "dirty.txt", "d\n");
    let kept = all.remove(&wt, RemoveMode::IfClean).await.expect("asked");
    assert!(
        matches!(&kept, Removed::Kept { risk } if risk.dirty == ["dirty.txt"] && risk.unapplied),
        "{kept:?}"
    );
    commit_all(&wt.path, "unmerged");
    let kept = all.remove(&wt, RemoveMode::IfClean).await.expect("asked");
    assert!(
        matches!(&kept, Removed::Kept { risk } if risk.dirty.is_empty() && risk.unmerged_commits == 1),
        "{kept:?}"
    );
    assert!(wt.path.join("dirty.txt").exists());
    let ours = ours_of(&wt);
    let hub = hub_of(&wt);
    let Removed::Gone { checkpoint } = all.remove(&wt, RemoveMode::Force).await.expect("removed") else {
        panic!("kept")
    };
    assert!(!wt.path.exists());
    assert_eq!(git(&hub, &["branch", "--list"]), "");
    assert_eq!(git(&ours, &["show", &format!("{}:dirty.txt", checkpoint.commit)]), "d");
    assert!(matches!(all.remove(&wt, RemoveMode::Force).await.expect("again"), Removed::NotThere));
    let again = all.ensure(&source(&repos), wt.session).await.expect("made again");
    assert_eq!(read(&again.path, "dirty.txt").as_deref(), Some("d\n"));
    assert_eq!(git(&again.path, &["log", "-1", "--format=%s"]), "unmerged");
}

#[tokio::test]
async fn a_clean_worktree_is_removed_unforced() {
    let repos = Repos::new();
    let (all, wt) = ensured(&repos, session()).await;
    write(&wt.path, "ignored/x", "x");
    assert!(matches!(all.remove(&wt, RemoveMode::IfClean).await.expect("removed"), Removed::Gone { .. }));
    assert!(!wt.path.exists());
}

#[tokio::test]
async fn pruning_keeps_the_base_the_last_and_interrupted_ones() {
    let repos = Repos::new();
    let (all, wt) = ensured(&repos, session()).await;
    let mut commits = Vec::new();
    for n in 0..6 {
        write(&wt.path, "n.txt", &n.to_string());
        let label = if n == 1 { INTERRUPTED } else { "turn" };
        commits.push(all.checkpoint(&wt, label).await.expect("saved").commit);
    }
    assert_eq!(all.prune(&wt, 2).await.expect("pruned"), 3);
    assert_eq!(all.prune(&wt, 2).await.expect("pruned"), 0);
    for (n, commit) in commits.iter().enumerate() {
        let restored = all.restore(&wt, commit).await;
        assert_eq!(restored.is_ok(), matches!(n, 1 | 4 | 5), "{n}: {restored:?}");
    }
    all.restore(&wt, &wt.base_commit).await.expect("the base stays");
}

#[tokio::test]
async fn f80_a_worktree_deleted_by_hand_comes_back_from_its_last_checkpoint_and_says_so() {
    let repos = Repos::new();
    let (all, wt) = ensured(&repos, session()).await;
    write(&wt.path, "work.txt", "w\n");
    all.checkpoint(&wt, "work").await.expect("saved");
    let state = files(&wt.path);
    std::fs::remove_dir_all(&wt.path).unwrap();
    let again = all.ensure(&source(&repos), wt.session).await.expect("made again");
    assert!(again.notices.iter().any(|n| n.contains("made again")), "{:?}", again.notices);
    assert_eq!(files(&again.path), state);
    assert_eq!(git(&again.path, &["status", "--porcelain"]), "?? work.txt");
}

#[tokio::test]
async fn f87_a_damaged_or_redirected_git_file_is_replaced_and_nothing_behind_it_runs() {
    let repos = Repos::new();
    let (all, wt) = ensured(&repos, session()).await;
    let good = std::fs::read(wt.path.join(".git")).unwrap();
    let evil = repos.dir.path().canonicalize().unwrap().join("evil");
    std::fs::create_dir(&evil).unwrap();
    git(&evil, &["init", "-q"]);
    let marker = repos.dir.path().join("marker");
    git(&evil, &["config", "core.fsmonitor", &format!("touch {}", marker.display())]);
    write(&wt.path, "work.txt", "w\n");
    for redirect in [format!("gitdir: {}/.git\n", evil.display()), "garbage".to_owned()] {
        std::fs::write(wt.path.join(".git"), &redirect).unwrap();
        let saved = all.checkpoint(&wt, &redirect).await.expect("saved all the same");
        assert_eq!(git(&ours_of_path(&repos), &["show", &format!("{}:work.txt", saved.commit)]), "w");
        all.ensure(&source(&repos), wt.session).await.expect("repaired");
        assert_eq!(std::fs::read(wt.path.join(".git")).unwrap(), good);
    }
    // A repository in its place is moved aside, not deleted.
    std::fs::remove_file(wt.path.join(".git")).unwrap();
    git(&wt.path, &["init", "-q"]);
    let again = all.ensure(&source(&repos), wt.session).await.expect("repaired");
    assert!(again.notices.iter().any(|n| n.contains("moved to")), "{:?}", again.notices);
    // Nor is a link followed out of the data folder.
    std::fs::remove_dir_all(&wt.path).unwrap();
    std::os::unix::fs::symlink(&evil, &wt.path).unwrap();
    let again = all.ensure(&source(&repos), wt.session).await.expect("repaired");
    assert_eq!(read(&again.path, "work.txt").as_deref(), Some("w\n"));
    assert!(!evil.join("work.txt").exists());
    assert!(!marker.exists());
}

fn ours_of_path(repos: &Repos) -> PathBuf {
    let project = std::fs::read_dir(repos.data.join("git/projects")).unwrap().next().unwrap().unwrap();
    project.path().join("ours.git")
}

#[tokio::test]
async fn s16_nothing_that_an_agent_plants_runs_in_our_git() {
    let repos = Repos::new();
    let (all, wt) = ensured(&repos, session()).await;
    let root = repos.dir.path().canonicalize().unwrap();
    let (marker, script) = (root.join("marker"), root.join("evil.sh"));
    std::fs::write(&script, format!("#!/bin/sh\ntouch {}\ncat\n", marker.display())).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let evil = script.to_str().unwrap();
    let hooks = root.join("hooks");
    std::fs::create_dir(&hooks).unwrap();
    let own_hooks = hub_of(&wt).join("hooks");
    std::fs::create_dir_all(&own_hooks).unwrap();
    for hook in [
        "post-checkout",
        "post-index-change",
        "reference-transaction",
        "pre-commit",
        "post-commit",
        "pre-push",
        "post-update",
        "pre-receive",
        "update",
        "pre-auto-gc",
        "fsmonitor-watchman",
        "post-merge",
        "post-rewrite",
    ] {
        std::os::unix::fs::symlink(&script, hooks.join(hook)).unwrap();
        std::os::unix::fs::symlink(&script, own_hooks.join(hook)).unwrap();
    }
    let config = hub_of(&wt).join("config");
    let mut text = std::fs::read_to_string(&config).unwrap();
    text.push_str(&format!(
        "[core]\n\thooksPath = {hooks}\n\tfsmonitor = {evil}\n\tsshCommand = {evil}\n\tpager = {evil}\n\talternateRefsCommand = {evil}\n\
         \tgitProxy = {evil}\n\teditor = {evil}\n[filter \"evil\"]\n\tclean = {evil}\n\tsmudge = {evil}\n\tprocess = {evil}\n\trequired = true\n\
         [diff]\n\texternal = {evil}\n[diff \"evil\"]\n\ttextconv = {evil}\n\tcommand = {evil}\n[merge \"evil\"]\n\tdriver = {evil}\n\
         [uploadpack]\n\tpackObjectsHook = {evil}\n[gpg]\n\tprogram = {evil}\n[credential]\n\thelper = !{evil}\n\
         [protocol \"ext\"]\n\tallow = always\n[url \"ext::{evil} \"]\n\tinsteadOf = /\n",
        hooks = hooks.display()
    ));
    write(&wt.path, ".gitattributes", "* filter=evil diff=evil merge=evil\n");
    write(&wt.path, "a.txt", "one\ntwo\nevil\n");
    // What the agent commits is really its own doing: its filters may run for it, then the marker is taken away.
    write(&wt.path, "committed.txt", "c\n");
    commit_all(&wt.path, "attributes");
    std::fs::write(&config, &text).unwrap();
    try_git(&wt.path, &["status"]);
    assert!(marker.exists(), "the trap works when an agent's own git steps on it");
    std::fs::remove_file(&marker).unwrap();
    let head =
        git(&wt.path, &["-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "rev-parse", "HEAD"]);
    let _ = std::fs::remove_file(&marker);

    write(&wt.path, "b.txt", "b\n");
    let saved = all.checkpoint(&wt, "evil").await.expect("saved");
    assert_eq!(saved.notices, Vec::<String>::new());
    let changes = all.changes(&wt, &wt.base_commit, &saved.commit).await.expect("changes");
    assert!(change(&changes, "a.txt").diff.as_deref().unwrap().contains("+evil"));
    all.risk(&wt).await.expect("risk");
    std::fs::remove_file(wt.path.join("b.txt")).unwrap();
    all.restore(&wt, &saved.commit).await.expect("restored");
    assert_eq!(read(&wt.path, "b.txt").as_deref(), Some("b\n"));
    std::fs::remove_dir_all(&wt.path).unwrap();
    all.ensure(&source(&repos), wt.session).await.expect("repaired");
    let (_, other) = ensured(&repos, session()).await;
    all.checkpoint(&other, "other").await.expect("saved");
    write(&repos.user, "a.txt", "zero\none\ntwo\nthree\n");
    commit_all(&repos.user, "moved");
    all.apply(&source(&repos), wt.session, &wt.base_commit, &saved.commit, "b", "m")
        .await
        .map(drop)
        .unwrap_or_else(|err| {
            assert!(matches!(err, WorktreeError::Conflict { .. }), "{err:?}");
        });
    all.remove(&wt, RemoveMode::Force).await.expect("removed");
    assert!(!marker.exists());
    let ours = ours_of_path(&repos);
    assert!(git(&ours, &["rev-list", &saved.commit]).contains(&head), "the agent's commit is in ours");
}

#[tokio::test]
async fn a_hub_that_no_git_can_open_costs_the_commits_at_most_never_the_files() {
    let repos = Repos::new();
    let (all, wt) = ensured(&repos, session()).await;
    write(&wt.path, "c.txt", "c\n");
    commit_all(&wt.path, "agent's");
    std::fs::write(hub_of(&wt).join("config"), "[core]\n\trepositoryformatversion = 99\n").unwrap();
    let saved = all.checkpoint(&wt, "x").await.expect("saved");
    assert_eq!(git(&ours_of(&wt), &["show", &format!("{}:c.txt", saved.commit)]), "c");
    assert!(
        saved.notices.iter().any(|n| n.contains("could not be saved, only the files")),
        "{:?}",
        saved.notices
    );
    let (_, other) = ensured(&repos, session()).await;
    assert!(other.path.join("a.txt").exists());
}

#[test]
fn s19_git_variables_of_our_own_environment_are_not_obeyed() {
    const INNER: &str = "AGENTPOOL_TEST_UNDER_GIT_VARIABLES";
    if std::env::var_os(INNER).is_some() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let repos = Repos::new();
            let (all, wt) = ensured(&repos, session()).await;
            write(&wt.path, "x", "x");
            let saved = all.checkpoint(&wt, "x").await.expect("saved");
            assert_eq!(all.changes(&wt, &wt.base_commit, &saved.commit).await.expect("changes").len(), 1);
        });
        return;
    }
    let trap = Repos::new();
    let before = picture(&trap.user);
    let marker = trap.dir.path().join("marker");
    let touch = format!("touch {}", marker.display());
    let out = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "worktree::s19_git_variables_of_our_own_environment_are_not_obeyed", "--nocapture"])
        .env(INNER, "1")
        .env("GIT_DIR", trap.user.join(".git"))
        .env("GIT_WORK_TREE", &trap.user)
        .env("GIT_INDEX_FILE", trap.user.join(".git/index"))
        .env("GIT_OBJECT_DIRECTORY", trap.user.join(".git/objects"))
        .env("GIT_EXTERNAL_DIFF", &touch)
        .env("GIT_SSH_COMMAND", &touch)
        .env("GIT_CONFIG_COUNT", "1")
        .env("GIT_CONFIG_KEY_0", "core.fsmonitor")
        .env("GIT_CONFIG_VALUE_0", &touch)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(
        out.status.success() && text.contains("1 passed"),
        "{text}{}",
        String::from_utf8_lossy(&out.stderr)
    );
    assert!(!marker.exists());
    assert!(picture(&trap.user) == before);
}

#[tokio::test]
async fn everything_but_apply_leaves_the_project_byte_identical() {
    let repos = Repos::new();
    git(&repos.user, &["config", "core.fsmonitor", "touch ../marker; false"]);
    write(&repos.user, "a.txt", "uncommitted");
    let before = picture(&repos.user);
    let (all, wt) = ensured(&repos, session()).await;
    write(&wt.path, "x", "x");
    commit_all(&wt.path, "x");
    assert!(!try_git(&wt.path, &["push", "-q", "origin", "HEAD"]).status.success());
    let saved = all.checkpoint(&wt, "x").await.expect("saved");
    all.changes(&wt, &wt.base_commit, &saved.commit).await.expect("changes");
    all.restore(&wt, &wt.base_commit).await.expect("restored");
    all.risk(&wt).await.expect("risk");
    all.prune(&wt, 1).await.expect("pruned");
    all.remove(&wt, RemoveMode::Force).await.expect("removed");
    ensured(&repos, wt.session).await;
    assert!(picture(&repos.user) == before);
    assert!(!repos.dir.path().join("marker").exists());
}

#[tokio::test]
async fn the_projects_own_collection_takes_nothing_from_ours() {
    let repos = Repos::new();
    let (all, wt) = ensured(&repos, session()).await;
    write(&repos.user, "other.txt", "o");
    git(&repos.user, &["checkout", "-q", "--orphan", "new"]);
    commit_all(&repos.user, "history rewritten");
    git(&repos.user, &["branch", "-q", "-D", "main"]);
    git(&repos.user, &["reflog", "expire", "--expire=now", "--all"]);
    git(&repos.user, &["gc", "-q", "--prune=now"]);
    git(&hub_of(&wt), &["gc", "-q", "--prune=now"]);
    all.restore(&wt, &wt.base_commit).await.expect("restored");
    git(&ours_of(&wt), &["fsck", "--strict"]);
    assert_eq!(git(&wt.path, &["status", "--porcelain"]), "");
}

/// What git leaves when it is killed while it adds the very worktree that `ensure` is about to make.
#[tokio::test]
async fn f82_what_a_killed_worktree_add_leaves_is_repaired() {
    let repos = Repos::with_files(400);
    let (all, first) = ensured(&repos, session()).await;
    let hub = hub_of(&first);
    let (mut debris, mut full) = (0, Duration::ZERO);
    for round in 0..31 {
        let id = session();
        let tree = repos.data.canonicalize().unwrap().join("worktrees").join(id.to_string());
        let branch = format!("agentpool/{}", &id.0.simple().to_string()[20..]);
        let start = Instant::now();
        let mut child = std::process::Command::new("git")
            .args(["-c", "safe.directory=*", "--git-dir"])
            .arg(&hub)
            .args(["worktree", "add", "-q", "--lock", "-b", &branch])
            .arg(&tree)
            .arg(&first.base_commit)
            .spawn()
            .unwrap();
        if round == 0 {
            // How long a whole one takes here: the kills are spread over it.
            assert!(child.wait().unwrap().success());
            full = start.elapsed();
        } else {
            let at = full * round / 30;
            while start.elapsed() < at {
                std::hint::spin_loop();
            }
            let _ = child.kill();
            child.wait().unwrap();
        }
        debris += u32::from(tree.exists());
        let wt = all.ensure(&source(&repos), id).await.unwrap_or_else(|err| panic!("round {round}: {err}"));
        assert_eq!(git(&wt.path, &["status", "--porcelain"]), "", "round {round}");
        assert_eq!(git(&wt.path, &["symbolic-ref", "--short", "HEAD"]), wt.branch, "round {round}");
        git(&wt.path, &["commit", "-q", "--allow-empty", "-m", "the agent's git works"]);
        all.checkpoint(&wt, "x").await.unwrap_or_else(|err| panic!("round {round}: {err}"));
    }
    assert!(debris > 10, "the kills came too early to prove anything: {debris} of 31 left something");
}

/// A dropped future stands in for a kill: it stops between any two steps, and its git is killed.
#[tokio::test]
async fn every_operation_cut_off_anywhere_is_finished_by_the_next_ensure() {
    let repos = Repos::with_files(200);
    let (all, wt) = ensured(&repos, session()).await;
    write(&wt.path, "keep.txt", "k\n");
    let saved = all.checkpoint(&wt, "state").await.expect("saved");
    let state = files(&wt.path);
    for round in 0..25_u64 {
        let cut = Duration::from_micros(500 + round * 1_800);
        let new = session();
        let _ = tokio::time::timeout(cut, all.ensure(&source(&repos), new)).await;
        let made = all.ensure(&source(&repos), new).await.unwrap_or_else(|err| panic!("{round}: {err}"));
        assert_eq!(git(&made.path, &["status", "--porcelain"]), "", "{round}");

        write(&wt.path, "a.txt", &format!("{round}\n"));
        write(&wt.path, &format!("new-{round}.txt"), "n\n");
        let _ = tokio::time::timeout(cut, all.checkpoint(&wt, "cut")).await;
        all.checkpoint(&wt, INTERRUPTED).await.unwrap_or_else(|err| panic!("{round}: {err}"));
        let _ = tokio::time::timeout(cut, all.restore(&wt, &saved.commit)).await;
        all.ensure(&source(&repos), wt.session).await.unwrap_or_else(|err| panic!("{round}: {err}"));
        all.restore(&wt, &saved.commit).await.unwrap_or_else(|err| panic!("{round}: {err}"));
        assert_eq!(files(&wt.path), state, "{round}");

        let _ = tokio::time::timeout(cut, all.remove(&made, RemoveMode::Force)).await;
        let again = all.ensure(&source(&repos), new).await.unwrap_or_else(|err| panic!("{round}: {err}"));
        assert_eq!(git(&again.path, &["status", "--porcelain"]), "", "{round}");
    }
}

/// A real SIGKILL: the git that ran at that moment lives on, and holds the lock until it is done.
#[test]
fn after_sigkill_of_the_whole_program_the_next_one_finishes_what_it_began() {
    const INNER: &str = "AGENTPOOL_TEST_TO_BE_KILLED";
    let runtime = tokio::runtime::Runtime::new().unwrap();
    if let Some(told) = std::env::var_os(INNER) {
        let told = told.into_string().unwrap();
        let [data, user, id, first] = told.split('|').collect::<Vec<_>>().try_into().unwrap();
        runtime.block_on(async {
            let (all, project) = (Worktrees::new(data.into()), ProjectSource::Path(user.into()));
            let wt = all.ensure(&project, id.parse().unwrap()).await.expect("ensured");
            loop {
                write(&wt.path, "a.txt", &uuid::Uuid::new_v4().to_string());
                all.checkpoint(&wt, "turn").await.expect("saved");
                all.restore(&wt, first).await.expect("restored");
                let other = all.ensure(&project, session()).await.expect("another");
                all.remove(&other, RemoveMode::Force).await.expect("removed");
            }
        })
    }
    let repos = Repos::with_files(300);
    runtime.block_on(async {
        let (all, wt) = ensured(&repos, session()).await;
        write(&wt.path, "keep.txt", "k\n");
        let first = all.checkpoint(&wt, "first").await.expect("saved");
        let state = files(&wt.path);
        let told = [
            repos.data.display().to_string(),
            repos.user.display().to_string(),
            wt.session.to_string(),
            first.commit.clone(),
        ];
        for round in 0..20_u64 {
            let name = "worktree::after_sigkill_of_the_whole_program_the_next_one_finishes_what_it_began";
            let seen = numbered(&wt);
            let mut child = std::process::Command::new(std::env::current_exe().unwrap())
                .args(["--exact", name])
                .env(INNER, told.join("|"))
                .stdout(std::process::Stdio::null())
                .spawn()
                .unwrap();
            // It is at work once there is a new checkpoint; then it dies at some other point of its round each time.
            let deadline = Instant::now() + Duration::from_secs(30);
            while numbered(&wt) <= seen {
                assert!(Instant::now() < deadline, "round {round}: the child never got to work");
                std::hint::spin_loop();
            }
            let start = Instant::now();
            while start.elapsed() < Duration::from_micros(round * 5_300) {
                std::hint::spin_loop();
            }
            child.kill().unwrap();
            child.wait().unwrap();
            let again =
                all.ensure(&source(&repos), wt.session).await.unwrap_or_else(|err| panic!("{round}: {err}"));
            all.checkpoint(&again, INTERRUPTED).await.unwrap_or_else(|err| panic!("{round}: {err}"));
            all.restore(&again, &first.commit).await.unwrap_or_else(|err| panic!("{round}: {err}"));
            assert_eq!(files(&wt.path), state, "{round}");
            git(&wt.path, &["status"]);
        }
        git(&ours_of(&wt), &["fsck", "--strict"]);
    });
}

/// The highest number of a session's checkpoints.
fn numbered(wt: &Worktree) -> u64 {
    let refs = ours_of(wt).join("refs/agentpool").join(wt.session.to_string());
    let number = |entry: std::io::Result<std::fs::DirEntry>| entry.ok()?.file_name().to_str()?.parse().ok();
    std::fs::read_dir(refs).unwrap().filter_map(number).max().unwrap_or(0)
}

#[tokio::test]
async fn f86_an_agents_lock_file_goes_when_it_is_old_and_stays_when_it_is_young() {
    let repos = Repos::new();
    let (all, wt) = ensured(&repos, session()).await;
    let lock = hub_of(&wt).join("worktrees").join(wt.session.to_string()).join("index.lock");
    let file = std::fs::File::create(&lock).unwrap();
    all.ensure(&source(&repos), wt.session).await.expect("ensured");
    assert!(lock.exists());
    file.set_modified(std::time::SystemTime::now() - Duration::from_secs(120)).unwrap();
    let again = all.ensure(&source(&repos), wt.session).await.expect("ensured");
    assert!(!lock.exists() && again.notices.iter().any(|n| n.contains("index.lock")));
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
    all.restore(&one, &one.base_commit).await.expect("restored");
    assert_eq!(git(&one.path, &["rev-parse", "HEAD"]), one.base_commit);
    git(&one.path, &["fsck"]);
}

#[tokio::test]
async fn times_of_a_worktree_with_two_thousand_files_are_printed() {
    let repos = Repos::with_files(2_000);
    let start = Instant::now();
    let (all, wt) = ensured(&repos, session()).await;
    println!("ensure, first of the project: {:?}", start.elapsed());
    let start = Instant::now();
    let (_, _) = ensured(&repos, session()).await;
    println!("ensure, second session: {:?}", start.elapsed());
    let mut best = [Duration::MAX; 5];
    for round in 0..10 {
        let mut lap = |at: usize, start: Instant| best[at] = best[at].min(start.elapsed());
        let start = Instant::now();
        all.ensure(&source(&repos), wt.session).await.expect("ensured");
        lap(0, start);
        for n in 0..20 {
            write(&wt.path, &format!("many/{n}/{}.txt", n * 50), &format!("{round}\n"));
        }
        let start = Instant::now();
        let saved = all.checkpoint(&wt, "changed").await.expect("saved");
        lap(1, start);
        let start = Instant::now();
        assert!(all.checkpoint(&wt, "unchanged").await.expect("saved").reused);
        lap(2, start);
        let start = Instant::now();
        assert_eq!(all.changes(&wt, &wt.base_commit, &saved.commit).await.expect("changes").len(), 20);
        lap(3, start);
        let start = Instant::now();
        all.restore(&wt, &wt.base_commit).await.expect("restored");
        lap(4, start);
    }
    for (name, time) in
        ["ensure", "checkpoint, 20 files", "checkpoint, unchanged", "changes", "restore"].iter().zip(best)
    {
        println!("{name}: {time:?}");
    }
}
