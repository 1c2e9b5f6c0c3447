//! What differs between two states, whatever the files are called.

use super::{change, ensured, session};
use crate::support::repos::{Repos, commit_all, write};
use agentpool::domain::change::{ChangeOperation, DIFF_BYTES_MAX};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;

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
