//! S17 and S18: filters that a project names, and repositories that an agent plants.

use super::{all_of, ensured, ours_of, session, source};
use crate::support::repos::{Repos, commit_all, git, read, try_git, write};
use agentpool::worktree::{ProjectSource, RemoveMode};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// A program that leaves a mark, and where it would leave it.
fn trap(repos: &Repos) -> (String, PathBuf) {
    let root = repos.dir.path().canonicalize().unwrap();
    let (marker, script) = (root.join("marker"), root.join("evil.sh"));
    std::fs::write(&script, format!("#!/bin/sh\ntouch {}\ncat\n", marker.display())).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    (script.display().to_string(), marker)
}

#[tokio::test]
async fn s17_filters_that_a_project_configures_run_neither_at_checkout_nor_at_a_checkpoint_nor_at_an_apply() {
    let repos = Repos::new();
    write(&repos.user, ".gitattributes", "*.txt filter=evil diff=evil merge=evil\n");
    commit_all(&repos.user, "attributes");
    let (evil, marker) = trap(&repos);
    for key in [
        "filter.evil.clean",
        "filter.evil.smudge",
        "filter.evil.process",
        "diff.evil.textconv",
        "merge.evil.driver",
    ] {
        git(&repos.user, &["config", key, &evil]);
    }
    git(&repos.user, &["config", "filter.evil.required", "true"]);
    write(&repos.user, ".git/info/attributes", "* filter=evil\n");
    try_git(&repos.user, &["checkout", "-q", "HEAD~1", "--", "."]);
    write(&repos.user, "a.txt", "1\n");
    try_git(&repos.user, &["add", "a.txt"]);
    assert!(marker.exists(), "the trap works when the user's own git steps on it");
    for key in ["core.hooksPath", "core.fsmonitor"] {
        git(&repos.user, &["config", key, &evil]);
    }
    std::fs::remove_file(&marker).unwrap();
    let (all, wt) = ensured(&repos, session()).await;
    assert_eq!(read(&wt.path, "a.txt").as_deref(), Some("one\ntwo\nthree\n"));
    write(&wt.path, "a.txt", "one\ntwo\nevil\n");
    let saved = all.checkpoint(&wt, "x").await.expect("saved");
    assert_eq!(git(&ours_of(&wt), &["show", &format!("{}:a.txt", saved.commit)]), "one\ntwo\nevil");
    all.restore(&wt, &wt.base_commit).await.expect("restored");
    all.apply(&source(&repos), wt.session, &all_of(&wt.base_commit, &saved.commit, "b", "m"))
        .await
        .expect("applied");
    all.remove(&wt, RemoveMode::Force).await.expect("removed");
    assert!(!marker.exists());
}

/// A repository whose git directory is the folder itself, as plain files, with a configuration that runs something.
fn plant(folder: &Path, evil: &str) {
    std::fs::create_dir_all(folder).unwrap();
    git(folder, &["init", "-q"]);
    write(folder, "inside.txt", "i\n");
    commit_all(folder, "planted");
    for entry in std::fs::read_dir(folder.join(".git")).unwrap().flatten() {
        std::fs::rename(entry.path(), folder.join(entry.file_name())).unwrap();
    }
    std::fs::remove_dir(folder.join(".git")).unwrap();
    let config = format!(
        "[core]\n\trepositoryformatversion = 0\n\tbare = false\n\tworktree = ..\n\tfsmonitor = {evil}\n\tsshCommand = {evil}\n"
    );
    write(folder, "config", &config);
}

#[tokio::test]
async fn s18_a_planted_bare_repository_is_files_like_any_other_and_nothing_of_it_runs() {
    let repos = Repos::new();
    let (evil, marker) = trap(&repos);
    let (all, wt) = ensured(&repos, session()).await;
    let below = wt.path.join("below");
    plant(&below, &evil);
    try_git(&below, &["status"]);
    assert!(marker.exists(), "the trap works when an agent's own git steps on it");
    std::fs::remove_file(&marker).unwrap();
    let saved = all.checkpoint(&wt, "planted").await.expect("saved");
    let kept = git(&ours_of(&wt), &["show", &format!("{}:below/config", saved.commit)]);
    assert!(kept.contains("fsmonitor"), "{kept}");
    all.restore(&wt, &wt.base_commit).await.expect("restored");
    assert!(!below.join("HEAD").exists());
    all.restore(&wt, &saved.commit).await.expect("restored");
    all.risk(&wt).await.expect("risk");
    all.ensure(&source(&repos), wt.session).await.expect("ensured");
    // Nor when somebody takes it for a project of their own.
    let _ = all.ensure(&ProjectSource::Path(below), session()).await;
    all.remove(&wt, RemoveMode::Force).await.expect("removed");
    assert!(!marker.exists());
}
