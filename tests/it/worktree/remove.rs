//! Nothing dirty is deleted unasked.

use super::{ensured, hub_of, ours_of, session, source};
use crate::support::repos::{Repos, commit_all, git, read, write};
use agentpool::worktree::{RemoveMode, Removed};

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
async fn f81_a_clean_worktree_is_removed_unforced() {
    let repos = Repos::new();
    let (all, wt) = ensured(&repos, session()).await;
    write(&wt.path, "ignored/x", "x");
    assert!(matches!(all.remove(&wt, RemoveMode::IfClean).await.expect("removed"), Removed::Gone { .. }));
    assert!(!wt.path.exists());
}
