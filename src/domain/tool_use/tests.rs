//! What agents send, as recorded, and what pretends to be something else.

use super::*;
use serde_json::json;

fn command(payload: Value) -> Option<String> {
    match ToolUse::of(&payload).expect("a known shape").deed {
        Deed::Command { text, .. } => text,
        other => panic!("{other:?}"),
    }
}

fn files(payload: Value) -> Option<Vec<String>> {
    match ToolUse::of(&payload).expect("a known shape").deed {
        Deed::Files(paths) => paths,
        other => panic!("{other:?}"),
    }
}

#[test]
fn opencodes_recorded_requests_are_read_by_their_command_and_their_files() {
    let mut seen = Vec::new();
    for traffic in [
        include_str!("../../../fixtures/opencode/session.jsonl"),
        include_str!("../../../fixtures/opencode/subagent.jsonl"),
    ] {
        for line in traffic.lines().filter(|line| line.contains("permission.asked")) {
            let line: Value = serde_json::from_str(line).unwrap();
            let asked = &line["event"]["payload"]["properties"];
            seen.push(ToolUse::of(asked).expect("a known shape"));
        }
    }
    let texts: Vec<Option<&str>> = seen
        .iter()
        .filter_map(|used| match &used.deed {
            Deed::Command { text, .. } => Some(text.as_deref()),
            _ => None,
        })
        .collect();
    assert_eq!(texts, [Some("echo hi > b.txt"), Some("echo sub"), Some("sleep 30")]);
    let edit = seen.iter().find(|used| used.tool == "edit").unwrap();
    let told = ["out.txt".to_owned(), "/srv/worktree/out.txt".to_owned()];
    assert_eq!(edit.deed, Deed::Files(Some(told.to_vec())));
    assert!(seen.iter().any(|used| used.tool == "external_directory"));
}

#[test]
fn a_patch_that_moves_a_file_names_both_ends_of_the_way() {
    let asked = |files: Value| json!({"permission": "edit", "patterns": ["a"], "metadata": {"filepath": "a", "files": files}});
    let moved = json!([{"filePath": "/w/a", "relativePath": "b", "movePath": "/w/b"}]);
    assert_eq!(files(asked(moved)), Some(["a", "/w/a", "/w/b"].map(str::to_owned).to_vec()));
    assert_eq!(files(asked(json!("?"))), None, "a list that cannot be read is not told");
}

#[test]
fn what_agents_send_over_acp_is_read_by_its_input_and_never_by_its_title() {
    // claude, opencode, codex, gemini, as recorded; the payload is our translator's.
    let claude = json!({"call_id": "c", "tool": "Bash", "kind": "execute", "input": {"command": "cargo test"}, "locations": []});
    assert_eq!(command(claude).as_deref(), Some("cargo test"));
    let codex = json!({"tool": "execute", "kind": "execute", "input": {"command": ["bash", "-lc", "cargo test"], "cwd": "/w"}});
    let used = ToolUse::of(&codex).unwrap();
    assert_eq!(
        used.deed,
        Deed::Command { text: Some("cargo test".into()), alone: true, folder: Some("/w".into()) }
    );
    let gemini =
        json!({"tool": "execute", "kind": "execute", "title": "cargo test", "input": null, "locations": []});
    assert_eq!(command(gemini), None, "it tells its command in the title alone");
    let argv = json!({"tool": "execute", "input": {"command": ["git", "commit", "-m", "a b; c"]}});
    assert_eq!(command(argv).as_deref(), Some("git commit -m 'a b; c'"));
    let write = json!({"tool": "Write", "kind": "edit", "input": {"file_path": "/w/a.txt", "content": "x"},
        "locations": ["/w/a.txt:3"], "diffs": [{"path": "/w/a.txt", "new": "x"}]});
    assert_eq!(files(write), Some(vec!["/w/a.txt".to_owned()]));
    let patch = json!({"tool": "edit", "kind": "edit", "locations": [],
        "input": {"changes": {"/w/a": {"type": "update", "move_path": "/etc/b"}}}});
    assert_eq!(files(patch), Some(vec!["/etc/b".to_owned(), "/w/a".to_owned()]));
    let half = json!({"tool": "move", "kind": "move", "locations": ["/w/a"], "input": {}});
    assert_eq!(files(half), None);
    let several = json!({"tool": "edit", "kind": "edit", "locations": [], "input": {"filepath": "a, ../b"}});
    assert_eq!(files(several), None);
}

#[test]
fn whatever_holds_a_command_is_no_other_tool() {
    let disguised =
        json!({"tool": "Write", "kind": "edit", "input": {"command": "rm -rf /", "path": "/w/a"}});
    assert_eq!(
        command(disguised).as_deref(),
        Some("rm -rf / /w/a"),
        "what goes with it is looked through too"
    );
    let twice = json!({"tool": "bash", "input": {"command": "ls", "cwd": "/w", "workdir": "/etc"}});
    assert_eq!(command(twice), None);
    assert_eq!(ToolUse::of(&json!({"title": "bash: ls"})), None);
    assert_eq!(ToolUse::of(&Value::Null), None);
}

#[test]
fn an_input_that_could_name_another_file_leaves_the_files_untold() {
    let asked =
        |input: Value| files(json!({"tool": "edit", "kind": "edit", "locations": ["/w/a"], "input": input}));
    for input in [
        json!({"path": "/w/a", "target_file": "/etc/passwd"}),
        json!({"path": "/w/a", "target_file": "b"}),
        json!({"path": "/w/a", "other": "x/y"}),
        json!({"path": "/w/a", "other": "[redacted]"}),
        json!({"path": "/w/a", "edits": [{"path": "/etc/passwd"}]}),
        json!({"path": "/w/a", "edits": [{"oldText": "a", "path": "b"}]}),
        json!({"path": "/w/a", "more": {"x": 1}}),
        json!({"path": "/w/a", "content": ["/etc/passwd"]}),
        json!({"path": "/w/a", "patchText": "*** Delete File: /etc/passwd"}),
        json!("[redacted]"),
    ] {
        assert_eq!(asked(input.clone()), None, "{input}");
    }
    for input in [
        json!({"file_path": "/w/a", "old_string": "a/b", "new_string": "/etc/passwd", "replace_all": false}),
        json!({"file_path": "/w/a", "content": "/etc/passwd", "modified_by_user": false, "instruction": "a/b"}),
        json!({"path": "/w/a", "edits": [{"oldText": "/a", "newText": "/b"}]}),
        json!({"filepath": "/w/a", "diff": "--- /w/a", "patchText": "x/y", "files": [{"filePath": "/w/a"}]}),
        json!({"changes": {"/w/a": {"type": "update"}}, "call_id": "a/b", "reason": "a/b", "grant_root": null}),
    ] {
        assert_eq!(asked(input.clone()), Some(vec!["/w/a".to_owned()]), "{input}");
    }
}
