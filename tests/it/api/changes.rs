//! Changes over HTTP: who did what, down to the line; chosen files applied or taken back; states gone back to.

use crate::support::cli::User;
use crate::support::node::TestNode;
use crate::support::repos::{commit_all, git, picture, read, try_git, write};
use agentpool::wire::api::{
    AppliedView, ApplyChanges, ChangeView, CheckpointView, FileView, LineView, Problem, RejectChanges,
    RejectedView, SessionView, TaskView,
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use uuid::Uuid;

const PATIENT: &str = "{\"backend\": \"scripted\", \"permission\": {\"policy\": \"ask\"}}";

/// A node with a second agent, that asks before its turn ends: what is written meanwhile is its own.
pub(super) async fn node() -> TestNode {
    let folder = tempfile::tempdir().unwrap();
    let mut config = crate::support::node::scripted_config(&folder).await;
    let name = agentpool::domain::agent::AgentName::new("patient").unwrap();
    config.agents.insert(name, serde_json::from_str(PATIENT).unwrap());
    TestNode::start(config, vec![folder]).await
}

/// A turn of the agent that asks, during which `work` is done to the worktree.
pub(super) async fn turn(node: &TestNode, session: Uuid, work: impl FnOnce(&Path)) -> TaskView {
    let task = node.submit(session, "patient", "ASK: work\nSAY: done").await;
    let asked = node.one_pending_permission().await;
    work(&worktree(node, session).await);
    let answer = format!("/api/permissions/{}/answer", asked.id);
    node.post::<Value>(&answer, &json!({"decision": "allow_once"}), StatusCode::OK).await;
    let (task, _) = node.finish(task.id).await;
    assert_eq!(task.status, "completed", "{task:?}");
    task
}

/// Lines that are long enough for a moved file to be known again.
fn verse(lines: &[&str]) -> String {
    lines.iter().map(|line| format!("{line}, and then as many words as a line wants\n")).collect()
}

pub(super) async fn worktree(node: &TestNode, session: Uuid) -> PathBuf {
    let view: SessionView = node.get(&format!("/api/sessions/{session}")).await;
    PathBuf::from(view.worktree.expect("a turn has run"))
}

async fn text(node: &TestNode, path: &str) -> String {
    let response = node.request(Method::GET, path).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK, "{path}");
    assert_eq!(response.headers()["content-type"], "text/x-diff");
    String::from_utf8_lossy(&response.bytes().await.unwrap()).into_owned()
}

pub(super) async fn changes(node: &TestNode, session: Uuid) -> Vec<(String, String, String)> {
    let changes: Vec<ChangeView> = node.get(&format!("/api/sessions/{session}/changes?limit=500")).await;
    changes.into_iter().map(|change| (change.path, change.agent, change.status)).collect()
}

pub(super) fn with_status<'a>(changes: &'a [(String, String, String)], status: &str) -> Vec<&'a str> {
    changes.iter().filter(|(_, _, found)| found == status).map(|(path, ..)| path.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_line_of_a_file_is_told_whose_it_is_through_renames_people_and_restores() {
    let node = node().await;
    write(&node.project, "poem.txt", &verse(&["a", "b", "c", "d", "e"]));
    commit_all(&node.project, "poem");
    let s = node.session().await.id;
    let first =
        turn(&node, s, |tree| write(tree, "poem.txt", &verse(&["a", "b", "C one", "d", "e", "f one"]))).await;
    let second = turn(&node, s, |tree| {
        std::fs::rename(tree.join("poem.txt"), tree.join("song text.txt")).unwrap();
    })
    .await;
    write(
        &worktree(&node, s).await,
        "song text.txt",
        &verse(&["a user", "a", "b", "C one", "d", "e", "f one"]),
    );
    let third = node.turn(s, "scripted", "TOOL:write other.txt x").await;

    let lines: Vec<LineView> = node.get(&format!("/api/sessions/{s}/lines?path=song%20text.txt")).await;
    let told: Vec<_> =
        lines.iter().map(|l| (l.first, l.last.unwrap(), l.agent.as_str(), l.task_id)).collect();
    assert_eq!(
        told,
        [(1, 1, "user", None), (4, 4, "patient", Some(first.id)), (7, 7, "patient", Some(first.id))]
    );
    let files: Vec<FileView> = node.get(&format!("/api/sessions/{s}/files")).await;
    let song = files.iter().find(|file| file.path == "song text.txt").expect("it is listed");
    assert_eq!((song.operation.as_str(), song.old_path.as_deref()), ("rename", Some("poem.txt")));
    let by: Vec<_> =
        song.by.iter().map(|by| (by.agent.as_str(), by.additions, by.task_ids.clone())).collect();
    assert_eq!(by, [("patient", 2, vec![first.id, second.id]), ("user", 1, vec![])]);

    let of_task: Vec<ChangeView> = node.get(&format!("/api/tasks/{}/changes", third.id)).await;
    assert_eq!((of_task.len(), of_task[0].path.as_str()), (1, "other.txt"));
    let patch = text(&node, &format!("/api/tasks/{}/diff", first.id)).await;
    assert!(patch.contains("+C one") && !patch.contains("other.txt"), "{patch}");
    let whole = text(&node, &format!("/api/sessions/{s}/diff")).await;
    assert!(whole.contains("rename to song text.txt") && whole.contains("other.txt"), "{whole}");
    let one = text(&node, &format!("/api/sessions/{s}/diff?path=other.txt")).await;
    assert_eq!(one.matches("diff --git").count(), 1, "{one}");

    // Back to where the first turn had ended: what came later is superseded, and its lines are nobody's.
    let all: Vec<CheckpointView> = node.get(&format!("/api/sessions/{s}/checkpoints")).await;
    let after = all.iter().find(|c| c.task_id == Some(first.id) && c.kind == "after").expect("it was saved");
    let restore = format!("/api/sessions/{s}/checkpoints/{}/restore", after.id);
    node.post::<CheckpointView>(&restore, &json!({}), StatusCode::OK).await;
    let tree = worktree(&node, s).await;
    assert_eq!(read(&tree, "poem.txt").unwrap(), verse(&["a", "b", "C one", "d", "e", "f one"]));
    assert!(!tree.join("song text.txt").exists() && !tree.join("other.txt").exists());
    let now = changes(&node, s).await;
    assert_eq!(with_status(&now, "pending"), ["poem.txt"]);
    assert_eq!(with_status(&now, "superseded").len(), 3, "{now:?}");
    let lines: Vec<LineView> = node.get(&format!("/api/sessions/{s}/lines?path=poem.txt")).await;
    assert_eq!(lines.len(), 2);
    let gone = format!("/api/sessions/{s}/lines?path=song%20text.txt");
    assert_eq!(node.request(Method::GET, &gone).send().await.unwrap().status(), StatusCode::NOT_FOUND);

    // The next turn stands on it and finds nobody else's change, and the later state can be gone back to as well.
    turn(&node, s, |tree| write(tree, "poem.txt", &verse(&["a", "b", "C two", "d", "e", "f one"]))).await;
    let lines: Vec<LineView> = node.get(&format!("/api/sessions/{s}/lines?path=poem.txt")).await;
    assert_eq!(lines[0].task_id.map(|id| id == first.id), Some(false));
    assert_eq!(changes(&node, s).await.iter().filter(|(_, by, _)| by == "user").count(), 1);
    let later = all.iter().find(|c| c.task_id == Some(third.id) && c.kind == "after").expect("it was saved");
    let restore = format!("/api/sessions/{s}/checkpoints/{}/restore", later.id);
    node.post::<CheckpointView>(&restore, &json!({}), StatusCode::OK).await;
    assert!(tree.join("song text.txt").exists() && !tree.join("poem.txt").exists());
    let now = changes(&node, s).await;
    let mut pending = with_status(&now, "pending");
    pending.sort_unstable();
    assert_eq!(pending, ["other.txt", "poem.txt", "song text.txt", "song text.txt"]);
    assert_eq!(with_status(&now, "superseded"), ["poem.txt"], "the turn in between");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_files_are_listed_applied_by_choice_and_rejected() {
    let node = node().await;
    let latin = |folder: &Path| folder.join(OsStr::from_bytes(b"latin\xe9.txt"));
    for (name, text) in [("gone.txt", "g\n"), ("mode.sh", "#!/bin/sh\n"), ("bin", "x\0y")] {
        write(&node.project, name, text);
    }
    write(&node.project, "old name.txt", &"line\n".repeat(20));
    std::fs::write(latin(&node.project), b"caf\xe9\n").unwrap();
    commit_all(&node.project, "odd");
    let s = node.session().await.id;
    let odd = "tab\tquote\"new\nline.txt";
    let shown = "latin\u{FFFD}.txt";
    turn(&node, s, |tree| {
        write(tree, odd, "n\n");
        write(tree, "bin", "x\0z");
        std::fs::write(latin(tree), b"caf\xe9\nencore\n").unwrap();
        std::fs::write(tree.join("huge.txt"), "0123456789abcde\n".repeat((50 << 20) / 16)).unwrap();
        std::fs::remove_file(tree.join("gone.txt")).unwrap();
        std::fs::rename(tree.join("old name.txt"), tree.join("new name.txt")).unwrap();
        std::fs::set_permissions(tree.join("mode.sh"), std::fs::Permissions::from_mode(0o755)).unwrap();
    })
    .await;
    let files: Vec<FileView> = node.get(&format!("/api/sessions/{s}/files")).await;
    let mut names: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["bin", "gone.txt", "huge.txt", shown, "mode.sh", "new name.txt", odd]);
    assert!(files.iter().all(|file| file.by.len() == 1 && file.by[0].agent == "patient"), "{files:?}");
    let first: Vec<FileView> = node.get(&format!("/api/sessions/{s}/files?limit=3")).await;
    let rest: Vec<FileView> = node.get(&format!("/api/sessions/{s}/files?limit=500&offset=3")).await;
    assert_eq!((first.len(), rest.len()), (3, 4));
    let huge: Vec<LineView> = node.get(&format!("/api/sessions/{s}/lines?path=huge.txt")).await;
    assert_eq!((huge[0].first, huge[0].last), (1, None), "its diff is not told, so the file as a whole is");

    // A person changes one file of them, which then cannot go onto what the project has become.
    write(&node.project, "bin", "other\0");
    commit_all(&node.project, "moved");
    let apply = format!("/api/sessions/{s}/changes/apply");
    let body = |branch: &str, files: &[&str]| ApplyChanges {
        branch: Some(branch.into()),
        files: files.iter().map(|file| (*file).to_owned()).collect(),
        ..ApplyChanges::default()
    };
    let before = picture(&node.project);
    let refused: Problem = node.post(&apply, &body("all", &[]), StatusCode::CONFLICT).await;
    assert_eq!(refused.paths, ["bin"], "{refused:?}");
    let refused: Problem = node.post(&apply, &body("b", &["a.txt", odd]), StatusCode::CONFLICT).await;
    assert_eq!(refused.paths, ["a.txt"], "{refused:?}");
    assert!(picture(&node.project) == before, "nothing was touched");
    let chosen = ["huge.txt", shown, odd, "new name.txt"];
    let applied: AppliedView = node.post(&apply, &body("chosen", &chosen), StatusCode::OK).await;
    assert_eq!(applied.changes, 4);
    assert_eq!(git(&node.project, &["show", &format!("chosen:{odd}")]), "n");
    assert_eq!(git(&node.project, &["cat-file", "-s", "chosen:huge.txt"]), (50 << 20).to_string());
    assert!(!try_git(&node.project, &["cat-file", "-e", "chosen:old name.txt"]).status.success());
    assert!(try_git(&node.project, &["cat-file", "-e", "chosen:gone.txt"]).status.success(), "not chosen");

    let left: Vec<FileView> = node.get(&format!("/api/sessions/{s}/files?since=applied")).await;
    let left: Vec<&str> = left.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(left, ["bin", "gone.txt", "mode.sh"]);
    let reject = format!("/api/sessions/{s}/changes/reject");
    node.post::<Problem>(&reject, &json!({}), StatusCode::UNPROCESSABLE_ENTITY).await;
    let files = RejectChanges { files: vec!["gone.txt".into(), "bin".into()], all: false };
    let rejected: RejectedView = node.post(&reject, &files, StatusCode::OK).await;
    assert_eq!(rejected.changes, 2);
    let tree = worktree(&node, s).await;
    assert_eq!(
        (read(&tree, "gone.txt").as_deref(), read(&tree, "bin").as_deref()),
        (Some("g\n"), Some("x\0y"))
    );
    assert!(tree.join("new name.txt").exists(), "what was applied stays");
    let now = changes(&node, s).await;
    assert_eq!(with_status(&now, "pending"), ["mode.sh"]);
    assert_eq!(with_status(&now, "rejected").len(), 2);
    let again: Problem = node.post(&reject, &files, StatusCode::CONFLICT).await;
    assert_eq!(again.paths.len(), 2);

    // What was rejected is kept: the state before it can be gone back to, and then waits for review again.
    let all: Vec<CheckpointView> = node.get(&format!("/api/sessions/{s}/checkpoints")).await;
    assert_eq!(all[0].kind, "rejected");
    let restore = format!("/api/sessions/{s}/checkpoints/{}/restore", all[1].id);
    node.post::<CheckpointView>(&restore, &json!({}), StatusCode::OK).await;
    assert!(!tree.join("gone.txt").exists());
    assert_eq!(with_status(&changes(&node, s).await, "pending").len(), 3);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_reviews_changes() {
    let node = node().await;
    let s = node.session().await.id;
    turn(&node, s, |tree| {
        write(tree, "a.txt", "one\n2\nthree\n");
        write(tree, "new.txt", "n\n");
    })
    .await;
    let user = User::of(&node.url).with("AGENTPOOL_TOKEN", node.token.clone());
    let id = s.to_string();
    let listed = user.run(&["changes", &id]).await;
    assert!(listed.stdout.contains("patient") && listed.stdout.contains("new.txt"), "{listed:?}");
    let files = user.run(&["changes", "files", &id]).await;
    assert!(files.stdout.contains("create") && files.stdout.contains("patient"), "{files:?}");
    let diff = user.run(&["changes", "diff", &id, "a.txt"]).await;
    assert!(diff.stdout.contains("+2") && !diff.stdout.contains("new.txt"), "{diff:?}");
    let lines = user.run(&["changes", "lines", &id, "a.txt", "--json"]).await;
    let lines: Vec<LineView> = serde_json::from_str(&lines.stdout).unwrap();
    assert_eq!((lines.len(), lines[0].first, lines[0].last), (1, 2, Some(2)));
    user.run(&["changes", "lines", &id, "b.txt"]).await.expect(4);
    let applied = user.run(&["changes", "apply", &id, "new.txt", "--branch", "some"]).await;
    applied.expect(0);
    user.run(&["changes", "reject", &id]).await.expect(2);
    let rejected = user.run(&["changes", "reject", &id, "a.txt"]).await;
    assert!(rejected.stdout.contains("a.txt"), "{rejected:?}");
    let checkpoints = user.run(&["checkpoints", &id]).await;
    assert!(
        checkpoints.stdout.contains("rejected") && checkpoints.stdout.contains("after"),
        "{checkpoints:?}"
    );
    let all: Vec<CheckpointView> = node.get(&format!("/api/sessions/{s}/checkpoints")).await;
    let restored = user.run(&["checkpoints", "restore", &id, &all[1].id.to_string()]).await;
    restored.expect(0);
    assert_eq!(read(&worktree(&node, s).await, "a.txt").unwrap(), "one\n2\nthree\n");
    user.run(&["checkpoints", "restore", &id, "999999"]).await.expect(4);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_with_the_longest_path_is_a_change_like_any_other() {
    let node = node().await;
    let s = node.session().await.id;
    // What does not compress, as the names of packages' folders do not.
    let name = || (0..6).map(|_| Uuid::new_v4().simple().to_string()).collect::<String>();
    let folders: Vec<String> = (0..15).map(|_| name()).collect();
    let path = format!("{}/f.txt", folders.join("/"));
    turn(&node, s, |tree| {
        // Longer than one call takes.
        let script = format!("for d in $(echo '{path}' | tr / ' '); do case $d in f.txt) echo x > f.txt;; *) mkdir $d; cd $d;; esac; done");
        assert!(std::process::Command::new("sh").args(["-c", &script]).current_dir(tree).status().unwrap().success());
    })
    .await;
    let changes = changes(&node, s).await;
    assert_eq!(changes.len(), 1);
    assert!(changes[0].0.len() > 2_800, "{}", changes[0].0.len());
    node.stop().await;
}
