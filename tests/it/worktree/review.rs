//! Changes under review: a patch that carries everything, chosen files applied, files taken back, states gone back to.

use super::{change, ensured, session, source};
use crate::support::repos::{Repos, commit_all, git, picture, read, try_git, write};
use agentpool::domain::change::{ChangeOperation, Chosen};
use agentpool::worktree::{Apply, RemoveMode, Removed, Worktree, WorktreeError, Worktrees};
use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// As shown, of `b"latin\xe9.txt"`.
const LATIN: &str = "latin\u{FFFD}.txt";

fn files(names: &[&str]) -> Chosen {
    Chosen::Files(names.iter().map(|name| (*name).to_owned()).collect())
}

fn latin(folder: &Path) -> std::path::PathBuf {
    folder.join(OsStr::from_bytes(b"latin\xe9.txt"))
}

fn apply_of(wt: &Worktree, to: &str, branch: &str, chosen: Chosen) -> Apply {
    Apply {
        from_base: wt.base_commit.clone(),
        to: to.to_owned(),
        branch: branch.to_owned(),
        message: "m".to_owned(),
        chosen,
    }
}

/// A project with files of every odd kind, and a worktree where each of them has changed.
async fn odd() -> (Repos, Worktrees, Worktree, String) {
    let repos = Repos::new();
    for (name, text) in [("gone.txt", "g\n"), ("mode.sh", "#!/bin/sh\n"), ("kind", "k\n"), ("bin", "x\0y")] {
        write(&repos.user, name, text);
    }
    write(&repos.user, "old name.txt", &"line\n".repeat(20));
    write(&repos.user, "place", "a file where a folder will be\n");
    fs::write(latin(&repos.user), b"caf\xe9\n").unwrap();
    commit_all(&repos.user, "odd");
    let (all, wt) = ensured(&repos, session()).await;
    write(&wt.path, "a.txt", "one\n2\nthree\n");
    write(&wt.path, "tab\tquote\"new\nline.txt", "n\n");
    write(&wt.path, "*", "no pattern\n");
    write(&wt.path, "bin", "x\0z");
    write(&wt.path, "empty", "");
    fs::write(latin(&wt.path), b"caf\xe9\nencore\n").unwrap();
    fs::write(wt.path.join("huge.bin"), noise(50 << 20)).unwrap();
    fs::remove_file(wt.path.join("gone.txt")).unwrap();
    fs::rename(wt.path.join("old name.txt"), wt.path.join("new name.txt")).unwrap();
    fs::set_permissions(wt.path.join("mode.sh"), Permissions::from_mode(0o755)).unwrap();
    fs::remove_file(wt.path.join("kind")).unwrap();
    std::os::unix::fs::symlink("a.txt", wt.path.join("kind")).unwrap();
    fs::remove_file(wt.path.join("place")).unwrap();
    write(&wt.path, "place/inside.txt", "i\n");
    let saved = all.checkpoint(&wt, "after").await.expect("saved");
    assert!(saved.notices.is_empty(), "{:?}", saved.notices);
    (repos, all, wt, saved.commit)
}

/// Bytes that do not compress.
fn noise(count: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(&mut next).take(count / 8).flatten().collect()
}

/// The worktree's files, without its `.git`.
fn tree(folder: &Path) -> std::collections::BTreeMap<std::path::PathBuf, (u32, Vec<u8>)> {
    let files =
        picture(folder).into_iter().map(|(path, what)| (path.strip_prefix(folder).unwrap().to_owned(), what));
    files.filter(|(path, _)| !path.starts_with(".git")).collect()
}

#[tokio::test]
async fn a_patch_carries_every_odd_file_into_another_clone() {
    let (repos, all, wt, to) = odd().await;
    let mut patch = all.patch(wt.session, &wt.base_commit, &to, &Chosen::All).await.expect("a patch");
    let clone = repos.dir.path().join("clone");
    git(repos.dir.path(), &["clone", "-q", repos.user.to_str().unwrap(), clone.to_str().unwrap()]);
    let file = repos.dir.path().join("all.patch");
    std::io::copy(&mut patch, &mut File::create(&file).unwrap()).unwrap();
    git(&clone, &["apply", "--index", file.to_str().unwrap()]);
    assert!(tree(&clone) == tree(&wt.path), "the clone has what the worktree has");

    let mut one = String::new();
    let odd = "tab\tquote\"new\nline.txt";
    all.patch(wt.session, &wt.base_commit, &to, &files(&[odd]))
        .await
        .unwrap()
        .read_to_string(&mut one)
        .unwrap();
    assert_eq!(one.matches("diff --git").count(), 1, "{one}");
    let mut moved = String::new();
    let chosen = files(&["new name.txt"]);
    all.patch(wt.session, &wt.base_commit, &to, &chosen).await.unwrap().read_to_string(&mut moved).unwrap();
    assert!(moved.contains("rename from old name.txt"), "{moved}");
    let unknown = all.patch(wt.session, &wt.base_commit, &to, &files(&["b.txt"])).await;
    assert!(matches!(unknown, Err(WorktreeError::NoSuchChange { .. })), "{unknown:?}");
}

#[tokio::test]
async fn chosen_files_are_applied_and_the_rest_is_left_for_later() {
    let (repos, all, wt, to) = odd().await;
    let before = picture(&repos.user);
    let unknown =
        all.apply(&source(&repos), wt.session, &apply_of(&wt, &to, "b", files(&["a.txt", "src"]))).await;
    assert!(
        matches!(&unknown, Err(WorktreeError::NoSuchChange { paths }) if paths == &["src"]),
        "{unknown:?}"
    );
    assert!(picture(&repos.user) == before, "nothing was touched");

    let first = ["new name.txt", LATIN, "place/inside.txt", "tab\tquote\"new\nline.txt", "kind", "*"];
    let done =
        all.apply(&source(&repos), wt.session, &apply_of(&wt, &to, "first", files(&first))).await.unwrap();
    // The file in whose place a folder came goes with the folder's.
    assert_eq!(done.files.len(), first.len() + 1, "{:?}", done.files);
    let listed = git(
        &repos.user,
        &["-c", "core.quotePath=false", "diff", "--no-renames", "--name-status", "-z", "main..first"],
    );
    let mut listed: Vec<&str> = listed.split('\0').skip(1).step_by(2).collect();
    listed.sort_unstable();
    let expected = [
        "*",
        "kind",
        LATIN,
        "new name.txt",
        "old name.txt",
        "place",
        "place/inside.txt",
        "tab\tquote\"new\nline.txt",
    ];
    assert_eq!(listed, expected);
    git(&repos.user, &["fsck", "--strict"]);

    let accepted = all.accepted(wt.session).await.unwrap();
    let left = all.changed(wt.session, &accepted, &to).await.unwrap();
    let left: Vec<&str> = left.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(left, ["a.txt", "bin", "empty", "gone.txt", "huge.bin", "mode.sh"]);
    let again = all.apply(&source(&repos), wt.session, &apply_of(&wt, &to, "again", files(&["kind"]))).await;
    assert!(matches!(again, Err(WorktreeError::NoSuchChange { .. })), "applied already: {again:?}");
    let second = apply_of(&wt, &to, "second", files(&["huge.bin", "mode.sh", "gone.txt"]));
    all.apply(&source(&repos), wt.session, &second).await.expect("applied");
    assert!(git(&repos.user, &["ls-tree", "second", "mode.sh"]).starts_with("100755"));
    assert!(!try_git(&repos.user, &["cat-file", "-e", "second:gone.txt"]).status.success());
    assert!(!try_git(&repos.user, &["cat-file", "-e", "second:empty"]).status.success());
    assert!(!all.risk(&wt).await.unwrap().is_none(), "a.txt is nowhere else yet");

    let all_of_it = apply_of(&wt, &to, "everything", Chosen::All);
    all.apply(&source(&repos), wt.session, &all_of_it).await.expect("applied");
    git(&repos.user, &["checkout", "-q", "everything"]);
    assert!(tree(&repos.user) == tree(&wt.path), "the branch is the worktree");
    assert!(all.risk(&wt).await.unwrap().is_none());
}

#[tokio::test]
async fn a_chosen_file_in_conflict_is_named_and_one_beside_it_goes_onto_a_head_that_moved() {
    let (repos, all, wt, to) = odd().await;
    write(&repos.user, "a.txt", "one\ntheirs\nthree\n");
    commit_all(&repos.user, "moved");
    let before = picture(&repos.user);
    let refused =
        all.apply(&source(&repos), wt.session, &apply_of(&wt, &to, "b", files(&["a.txt", "bin"]))).await;
    assert!(matches!(&refused, Err(WorktreeError::Conflict { paths }) if paths == &["a.txt"]), "{refused:?}");
    assert!(picture(&repos.user) == before);
    let done = all
        .apply(&source(&repos), wt.session, &apply_of(&wt, &to, "b", files(&["bin", LATIN])))
        .await
        .unwrap();
    assert!(done.merged);
    assert_eq!(git(&repos.user, &["show", "b:a.txt"]), "one\ntheirs\nthree");
    assert_eq!(try_git(&repos.user, &["show", "b:bin"]).stdout, b"x\0z");
}

#[tokio::test]
async fn rejected_files_are_as_they_were_and_what_they_were_is_kept() {
    let (repos, all, wt, to) = odd().await;
    write(&wt.path, "ignored/out", "ignored\n");
    let applied = apply_of(&wt, &to, "b", files(&["a.txt"]));
    all.apply(&source(&repos), wt.session, &applied).await.expect("applied");
    write(&wt.path, "a.txt", "one\nlater\nthree\n");
    let full = tree(&wt.path);

    let names = [
        "new name.txt",
        LATIN,
        "place/inside.txt",
        "place",
        "mode.sh",
        "kind",
        "huge.bin",
        "gone.txt",
        "a.txt",
    ];
    let rejected = all.reject(&wt, &files(&names)).await.expect("rejected");
    assert_eq!(rejected.files.len(), names.len(), "{:?}", rejected.files);
    assert_eq!(change(&rejected.files, "new name.txt").operation, ChangeOperation::Rename);
    assert_eq!(read(&wt.path, "a.txt").unwrap(), "one\n2\nthree\n", "what was applied stays");
    assert_eq!(read(&wt.path, "place").unwrap(), "a file where a folder will be\n");
    assert_eq!(fs::read(latin(&wt.path)).unwrap(), b"caf\xe9\n");
    assert!(read(&wt.path, "old name.txt").is_some() && !wt.path.join("new name.txt").exists());
    assert!(!wt.path.join("huge.bin").exists() && read(&wt.path, "gone.txt").is_some());
    assert_eq!(fs::metadata(wt.path.join("mode.sh")).unwrap().permissions().mode() & 0o777, 0o644);
    assert!(fs::symlink_metadata(wt.path.join("kind")).unwrap().is_file());
    for kept in ["tab\tquote\"new\nline.txt", "*", "empty", "ignored/out"] {
        assert!(wt.path.join(kept).exists(), "{kept} was not chosen");
    }
    assert_eq!(try_git(&wt.path, &["fsck"]).status.code(), Some(0));

    let saved = all.checkpoint(&wt, "next").await.unwrap();
    assert_eq!(saved.commit, rejected.commit, "the next turn finds nothing changed");
    let unknown = all.reject(&wt, &files(&["mode.sh"])).await;
    assert!(matches!(unknown, Err(WorktreeError::NoSuchChange { .. })), "{unknown:?}");
    all.restore(&wt, &rejected.kept.commit).await.expect("restored");
    assert!(tree(&wt.path) == full, "nothing was lost by it");

    all.reject(&wt, &Chosen::All).await.expect("rejected");
    let mut base = tree(&repos.user);
    let a = base.iter_mut().find(|(path, _)| path.ends_with("a.txt")).expect("it is there");
    a.1.1 = b"one\n2\nthree\n".to_vec();
    let mut left = tree(&wt.path);
    left.retain(|path, _| !path.starts_with("ignored"));
    assert!(left == base, "the base, and what was applied");
    let none = all.reject(&wt, &Chosen::All).await;
    assert!(matches!(none, Err(WorktreeError::NothingToReject)), "{none:?}");
}

#[tokio::test]
async fn a_state_of_another_session_cannot_be_gone_back_to() {
    let repos = Repos::new();
    let (all, wt) = ensured(&repos, session()).await;
    let (_, other) = ensured(&repos, session()).await;
    write(&other.path, "secret.txt", "s\n");
    let theirs = all.checkpoint(&other, "theirs").await.unwrap();
    let before = picture(&wt.path);
    let refused = all.restore(&wt, &theirs.commit).await;
    assert!(matches!(refused, Err(WorktreeError::NotOurs { .. })), "{refused:?}");
    assert!(picture(&wt.path) == before);
}

/// A worktree whose rules ignore more than those of the base, with `count` ignored files.
async fn ignoring(count: usize) -> (Repos, Worktrees, Worktree) {
    let repos = Repos::new();
    let (all, wt) = ensured(&repos, session()).await;
    write(&wt.path, ".gitignore", "ignored/\n*.log\nnode_modules/\nsecret.env\n");
    write(&wt.path, "secret.env", "never saved\n");
    for n in 0..count {
        write(&wt.path, &format!("node_modules/a-package-with-a-name/lib/component-{n:06}.js"), "x");
        write(&wt.path, &format!("new/{n}.txt"), "x\n");
    }
    all.checkpoint(&wt, "after").await.expect("saved");
    (repos, all, wt)
}

fn count_below(folder: &Path) -> usize {
    picture(folder).values().filter(|(mode, _)| mode & 0o170_000 != 0o040_000).count()
}

#[tokio::test]
async fn what_was_ignored_stays_however_much_it_is_when_its_rule_is_rejected() {
    let (_repos, all, wt) = ignoring(12_000).await;
    all.reject(&wt, &Chosen::All).await.expect("rejected");
    assert_eq!(read(&wt.path, ".gitignore").unwrap(), "ignored/\n*.log\n");
    assert!(!wt.path.join("new").exists());
    assert_eq!(read(&wt.path, "secret.env").as_deref(), Some("never saved\n"));
    assert_eq!(count_below(&wt.path.join("node_modules")), 12_000);
}

#[tokio::test]
async fn a_rejection_that_is_cut_off_anywhere_deletes_nothing_that_was_ignored() {
    for millis in [1, 5, 10, 15, 20, 25, 30, 40, 60, 90] {
        let (repos, all, wt) = ignoring(300).await;
        let given_up = std::time::Duration::from_millis(millis);
        let _ = tokio::time::timeout(given_up, all.reject(&wt, &Chosen::All)).await;
        all.ensure(&source(&repos), wt.session).await.expect("ensured");
        assert_eq!(read(&wt.path, "secret.env").as_deref(), Some("never saved\n"), "after {millis} ms");
        assert_eq!(count_below(&wt.path.join("node_modules")), 300, "after {millis} ms");
        // All of it went back, or none of it.
        let new = wt.path.join("new").exists();
        assert_eq!(read(&wt.path, ".gitignore").unwrap().contains("secret.env"), new, "after {millis} ms");
        assert!(!new || count_below(&wt.path.join("new")) == 300);
    }
}

#[tokio::test]
async fn what_git_cannot_save_is_never_deleted() {
    let repos = Repos::new();
    let (all, wt) = ensured(&repos, session()).await;
    write(&wt.path, "a.txt", "changed\n");
    // git takes no file of that name.
    write(&wt.path, "git~1", "precious\n");
    let saved = all.checkpoint(&wt, "after").await.expect("saved");
    assert!(saved.notices.iter().any(|notice| notice.contains("could not be saved")), "{:?}", saved.notices);
    all.reject(&wt, &files(&["a.txt"])).await.expect("rejected");
    all.restore(&wt, &saved.commit).await.expect("restored");
    all.restore(&wt, &wt.base_commit).await.expect("restored");
    assert_eq!(read(&wt.path, "git~1").as_deref(), Some("precious\n"));
    let removed = all.remove(&wt, RemoveMode::IfClean).await.expect("looked at");
    assert!(matches!(&removed, Removed::Kept { risk } if risk.dirty == ["git~1"]), "{removed:?}");
    assert!(wt.path.join("git~1").exists());
}

#[tokio::test]
async fn an_ignored_file_in_the_place_of_a_restored_one_is_kept_as_a_checkpoint() {
    let repos = Repos::new();
    let (all, wt) = ensured(&repos, session()).await;
    write(&wt.path, "out", "saved\n");
    let with_out = all.checkpoint(&wt, "with").await.expect("saved");
    fs::remove_file(wt.path.join("out")).unwrap();
    write(&wt.path, ".gitignore", "ignored/\n*.log\nout\n");
    write(&wt.path, "out/deep/file", "ignored, and in the way\n");
    all.checkpoint(&wt, "without").await.expect("saved");
    all.restore(&wt, &with_out.commit).await.expect("restored");
    assert_eq!(read(&wt.path, "out").as_deref(), Some("saved\n"));
    let ours = super::ours_of(&wt);
    let refs =
        git(&ours, &["for-each-ref", "--format=%(refname)", &format!("refs/agentpool/{}", wt.session)]);
    let held =
        |name: &str| try_git(&ours, &["cat-file", "-e", &format!("{name}:out/deep/file")]).status.success();
    assert!(refs.lines().any(held), "what was overwritten can be had again: {refs}");
}

#[tokio::test]
async fn more_goes_than_was_chosen_only_where_it_stands_in_the_way_and_is_told() {
    let (_repos, all, wt, _) = odd().await;
    write(&wt.path, "place/other.txt", "o\n");
    let rejected = all.reject(&wt, &files(&["place"])).await.expect("rejected");
    let mut told: Vec<&str> = rejected.files.iter().map(|file| file.path.as_str()).collect();
    told.sort_unstable();
    assert_eq!(told, ["place", "place/inside.txt", "place/other.txt"]);
    assert!(read(&wt.path, "place").is_some());
}

#[tokio::test]
async fn what_was_applied_and_merged_is_no_conflict_for_what_comes_later() {
    let repos = Repos::new();
    let (all, wt) = ensured(&repos, session()).await;
    write(&wt.path, "new.txt", "1\n");
    write(&wt.path, "a.txt", "one\n2\nthree\n");
    let first = all.checkpoint(&wt, "after").await.expect("saved");
    all.apply(&source(&repos), wt.session, &apply_of(&wt, &first.commit, "b1", Chosen::All))
        .await
        .expect("applied");
    git(&repos.user, &["merge", "-q", "b1"]);
    write(&wt.path, "new.txt", "1\n2\n");
    write(&wt.path, "a.txt", "one\n22\nthree\n");
    let second = all.checkpoint(&wt, "after").await.expect("saved");
    let one = apply_of(&wt, &second.commit, "b2", files(&["new.txt"]));
    all.apply(&source(&repos), wt.session, &one).await.expect("applied");
    assert_eq!(git(&repos.user, &["diff", "--name-only", "main..b2"]), "new.txt");
    let rest = apply_of(&wt, &second.commit, "b3", Chosen::All);
    all.apply(&source(&repos), wt.session, &rest).await.expect("applied");
    assert_eq!(git(&repos.user, &["show", "b3:a.txt"]), "one\n22\nthree");
    assert_eq!(git(&repos.user, &["show", "b3:new.txt"]), "1\n2");
}
