//! What a checkpoint holds, what it leaves out, and how long it stays.

use super::{ensured, hub_of, ours_of, session, source};
use crate::support::repos::{Repos, commit_all, git, write};
use agentpool::worktree::INTERRUPTED;

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
async fn f89_what_an_agent_commits_is_safe_in_ours_when_the_hub_is_gone() {
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
async fn s18_nested_repositories_are_named_and_neither_saved_nor_opened_nor_removed() {
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
async fn s18_a_submodule_keeps_its_commit_and_its_configuration_does_not_run() {
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
