//! Nothing that an agent plants runs in our git, and the project stays as it is.

use super::{all_of, change, ensured, hub_of, ours_of, session, source};
use crate::support::repos::{Repos, commit_all, git, picture, read, try_git, write};
use agentpool::worktree::{RemoveMode, WorktreeError};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

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
    all.apply(&source(&repos), wt.session, &all_of(&wt.base_commit, &saved.commit, "b", "m"))
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
async fn s16_a_hub_that_no_git_can_open_costs_the_commits_at_most_never_the_files() {
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
        .args([
            "--exact",
            "worktree::hostile::s19_git_variables_of_our_own_environment_are_not_obeyed",
            "--nocapture",
        ])
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
async fn s16_everything_but_apply_leaves_the_project_byte_identical() {
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
