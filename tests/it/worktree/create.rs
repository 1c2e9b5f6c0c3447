//! Worktrees are made whole, once, from every kind of project.

use super::{all_of, ensured, hub_of, ours_of, session, source};
use crate::support::repos::{Repos, commit_all, git, picture, read, write};
use agentpool::domain::failure::FailureReason;
use agentpool::worktree::{ProjectSource, WorktreeError, Worktrees};
use std::time::{Duration, Instant};

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
        .apply(&url, wt.session, &all_of(&wt.base_commit, &after.commit, "fix/it", "Fix it"))
        .await
        .expect("pushed");
    assert_eq!(git(&root.join("remote.git"), &["rev-parse", "fix/it"]), done.commit);
    let again =
        all.apply(&url, wt.session, &all_of(&wt.base_commit, &after.commit, "fix/it", "Fix it again")).await;
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
async fn f85_the_same_session_ensured_at_once_is_made_once() {
    let repos = Repos::new();
    let id = session();
    let made = futures::future::join_all((0..16).map(|_| ensured(&repos, id))).await;
    assert!(made.iter().all(|(_, wt)| wt.path == made[0].1.path));
    assert_eq!(git(&made[0].1.path, &["status", "--porcelain"]), "");
}

#[tokio::test]
async fn f89_the_projects_own_collection_takes_nothing_from_ours() {
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
