//! Stories of files and the authors of their lines.

use super::*;

fn step<'a>(moment: i64, path: &'a str, old_path: Option<&'a str>) -> Step<'a> {
    Step { moment: Some(moment), path, old_path }
}

fn edit<'a>(
    by: &'a str,
    old: Option<&'a str>,
    new: Option<&'a str>,
    diff: Option<&'a str>,
) -> Edit<'a, &'a str> {
    Edit { by, old_blob: old, new_blob: new, other_kind: false, diff }
}

fn line(first: u64, last: u64, by: &str) -> Lines<&str> {
    Lines { first, last: Some(last), by }
}

#[test]
fn a_story_follows_its_file_through_renames_and_no_other() {
    let steps = [
        step(1, "a", None),
        step(1, "c", None),
        // At once, in the order that is harder: c goes where a came from.
        step(2, "a", Some("c")),
        step(2, "b", Some("a")),
        step(3, "b", None),
        step(4, "c", None),
    ];
    let stories = stories(&steps);
    assert_eq!(stories["b"], [0, 3, 4]);
    assert_eq!(stories["a"], [1, 2]);
    assert_eq!(stories["c"], [5], "a new file of an old name has a story of its own");
}

#[test]
fn every_line_is_its_last_authors_and_what_was_there_is_nobodys() {
    let first = "diff --git a/f b/f\n--- a/f\n+++ b/f\n@@ -2,2 +2,3 @@ x\n two\n-three\n+THREE\n+more\n@@ -9,0 +11 @@\n+late\n";
    let second = "@@ -3,2 +3 @@\n-THREE\n-more\n+other\n";
    let edits = [edit("one", Some("0"), Some("1"), Some(first))];
    assert_eq!(lines(&edits), [line(3, 4, "one"), line(11, 11, "one")]);
    let edits = [edits[0].clone(), edit("two", Some("1"), Some("2"), Some(second))];
    assert_eq!(lines(&edits), [line(3, 3, "two"), line(10, 10, "one")]);
}

#[test]
fn a_new_file_is_its_makers_and_a_restored_content_is_whose_it_was() {
    let made = "@@ -0,0 +1,2 @@\n+@@ -1 +1 @@\n+--- looks like a header\n\\ No newline at end of file\n";
    let changed = "@@ -2 +2,2 @@\n---- looks like a header\n+b\n+c\n";
    let edits = [
        edit("one", None, Some("1"), Some(made)),
        edit("two", Some("1"), Some("2"), Some(changed)),
        edit("user", Some("2"), Some("1"), None),
    ];
    assert_eq!(lines(&edits[..1]), [line(1, 2, "one")]);
    assert_eq!(lines(&edits[..2]), [line(1, 1, "one"), line(2, 3, "two")]);
    // Without a diff nothing is known but who did it.
    assert_eq!(lines(&edits), [Lines { first: 1, last: None, by: "user" }]);
    let gone = [edits[0].clone(), edit("two", Some("1"), None, Some("@@ -1,2 +0,0 @@\n-a\n-b\n"))];
    assert_eq!(lines(&gone), []);
    // After a restore the next edit stands on an earlier content.
    let again = edit("three", Some("1"), Some("3"), Some("@@ -0,0 +1 @@\n+top\n"));
    let edits = [edits[0].clone(), edits[1].clone(), again];
    assert_eq!(lines(&edits), [line(1, 1, "three"), line(2, 3, "one")]);
}

#[test]
fn a_rename_or_a_new_mode_leaves_every_line_whose_it_is() {
    let made = "@@ -0,0 +1 @@\n+a\n";
    let edits = [
        edit("one", None, Some("1"), Some(made)),
        edit("two", Some("1"), Some("1"), Some("rename from a\n")),
    ];
    assert_eq!(lines(&edits), [line(1, 1, "one")]);
    let link = Edit {
        other_kind: true,
        ..edit("two", Some("1"), Some("2"), Some("@@ -1 +0,0 @@\n-a\n@@ -0,0 +1 @@\n+b\n"))
    };
    assert_eq!(lines(&[edits[0].clone(), link]), [Lines { first: 1, last: None, by: "two" }]);
}

#[test]
fn a_file_of_very_many_authors_is_told_in_one_pass() {
    let lines_of = |from: usize, every: usize| -> String {
        (0..100_000).step_by(every).map(|n| format!("@@ -{} +{} @@\n-a\n+b\n", from + n, from + n)).collect()
    };
    let made: String = format!("@@ -0,0 +1,100000 @@\n{}", "+a\n".repeat(100_000));
    let (second, third) = (lines_of(1, 2), lines_of(2, 4));
    let edits = [
        edit("one", None, Some("1"), Some(&made)),
        edit("two", Some("1"), Some("2"), Some(&second)),
        edit("three", Some("2"), Some("3"), Some(&third)),
    ];
    let told = lines(&edits);
    assert_eq!(told[..4], [line(1, 1, "two"), line(2, 2, "three"), line(3, 3, "two"), line(4, 4, "one")]);
    assert_eq!(told.len(), 100_000);
}
