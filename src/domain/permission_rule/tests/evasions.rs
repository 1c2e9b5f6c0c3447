//! Ways around a rule: what stands beside a deed, what was taken out of its text, other spellings, programs that run others.

use super::*;

fn command(input: Value) -> Value {
    json!({"tool": "Bash", "kind": "execute", "input": input})
}

fn exact(decision: RuleDecision, tool: &str, pattern: &str) -> StandingRule {
    rule(decision, tool, Some(pattern), true)
}

#[test]
fn a_text_without_its_secrets_is_only_ever_forbidden() {
    for redacted in [
        bash("cargo test [redacted]"),
        command(json!({"command": "cargo test", "cwd": "/srv/w/[redacted]"})),
        edit(&["src/[redacted]"]),
        edit(&["src/a", "[redacted]"]),
    ] {
        assert!(!hit(&allow("bash", "cargo test"), &redacted), "{redacted}");
        assert!(
            !hit(&allow("edit", "**"), &redacted) && !hit(&rule_for_all("edit"), &redacted),
            "{redacted}"
        );
        assert_eq!(derived(PermissionKind::Tool, &redacted, WORKTREE), Err(NoRule::Untold), "{redacted}");
    }
    assert!(hit(&deny("bash", "cargo test"), &bash("cargo test [redacted]")));
    assert!(hit(&deny("edit", "src/**"), &edit(&["src/[redacted]"])));
}

#[test]
fn a_command_is_allowed_only_when_nothing_unknown_goes_with_it() {
    for input in [
        json!({"command": "git", "args": ["push", "--force"]}),
        json!({"command": "git", "args": []}),
        json!({"command": "git", "env": {"PATH": "/tmp"}}),
        json!({"command": "git", "dangerouslyDisableSandbox": true}),
        json!({"command": "git", "additional_permissions": {}}),
    ] {
        let asked = command(input);
        assert!(
            !hit(&allow("bash", "git"), &asked) && !hit(&exact(RuleDecision::Allow, "bash", "git"), &asked)
        );
        assert_eq!(derived(PermissionKind::Tool, &asked, WORKTREE), Err(NoRule::Untold), "{asked}");
    }
    for input in [
        json!({"command": "git", "description": "d", "timeout": 5, "run_in_background": true}),
        json!({"command": "git", "dangerouslyDisableSandbox": false, "env": null}),
        json!({"command": ["bash", "-lc", "git"], "cwd": "/srv/w", "call_id": "c", "parsed_cmd": [{"cmd": "git"}]}),
    ] {
        assert!(hit(&allow("bash", "git"), &command(input.clone())), "{input}");
    }
    let split = command(json!({"command": "git", "args": ["push"]}));
    assert!(hit(&deny("bash", "git push"), &split));
    let other = json!({"tool": "editor", "input": {"command": "view", "path": "/srv/w/a"}});
    assert!(!hit(&deny("bash", "git push"), &other), "what says that it is something else is not forbidden");
}

#[test]
fn another_spelling_of_a_path_is_forbidden_too() {
    let rule = deny("edit", "src/**");
    for spelled in [
        "/srv/w/../w/src/a",
        "../w/src/a",
        "/srv/w/x/../../w/src/a",
        "~/w/src/a",
        "~me/src/a",
        "file:///srv/w/src/a",
        "file:///srv/w/%73rc/a",
    ] {
        assert!(hit(&rule, &edit(&[spelled])), "{spelled}");
    }
    for other in ["docs/../a/src", "/srv/w/x/../docs/a", "~/w/docs/a", "a%73rc/a"] {
        assert!(!hit(&rule, &edit(&[other])), "{other}");
    }
}

#[test]
fn a_forbidden_command_is_found_in_braces_and_behind_other_programs() {
    for bad in ["{git,push}", "{git,push,--force}", "/bin/{git,push}"] {
        assert!(hit(&deny("bash", "git push"), &bash(bad)), "{bad}");
    }
    assert!(!hit(&deny("bash", "git push"), &bash("git,push")));
    let rule = exact(RuleDecision::Deny, "bash", "rm -rf build");
    for bad in [
        "rm -rf build",
        "/bin/rm -rf build",
        "env rm -rf build",
        "sh -c 'rm -rf build'",
        "sh -c 'rm -rf build' x",
        "sh -c '/bin/rm -rf build' x",
    ] {
        assert!(hit(&rule, &bash(bad)), "{bad}");
    }
    let beside = command(json!({"command": "rm -rf build", "note": "x"}));
    assert!(hit(&rule, &beside), "what goes with it does not hide it");
    for good in ["rm -rf build/x", "rm -rf build other", "rm -r build"] {
        assert!(!hit(&rule, &bash(good)), "{good}");
    }
}

#[test]
fn a_search_allowed_as_a_whole_stays_in_the_worktree() {
    for tool in ["grep", "glob", "search"] {
        let rule = rule_for_all(tool);
        let acp = |input: Value| json!({"tool": tool, "kind": "search", "input": input, "locations": []});
        let opencode = |pattern: &str, metadata: Value| json!({"permission": tool, "patterns": [pattern], "metadata": metadata});
        for away in [
            acp(json!({"pattern": "x", "path": "/etc"})),
            acp(json!({"pattern": "/etc/*"})),
            acp(json!({"pattern": "x", "glob": "../*"})),
            acp(json!({"pattern": "x", "dir_path": "/etc"})),
            opencode("x", json!({"path": "/etc"})),
            opencode("~/.ssh/*", json!({})),
        ] {
            assert!(!hit(&rule, &away), "{away}");
        }
        for here in [
            acp(json!({"pattern": "a/*.rs"})),
            acp(json!({"pattern": "x", "path": "/srv/w", "output_mode": "content"})),
            acp(json!({"pattern": "x", "path": "src"})),
            opencode("x", json!({"path": "/srv/w/src", "include": "*.rs"})),
            opencode("x", json!({})),
        ] {
            assert!(hit(&rule, &here), "{here}");
        }
    }
}

#[test]
fn a_program_that_runs_what_follows_is_allowed_with_words_or_exactly() {
    let new = |pattern: &str, exact, decision| {
        let text = RuleText { tool: "bash".into(), pattern: Some(pattern.into()), exact };
        StandingRule::new(Uuid::nil(), text, decision).map(|_| ())
    };
    for pattern in ["bash", "sh -c", "bash -lc", "/bin/sh", "env", "env X=1", "sudo -n", "xargs", "time"] {
        assert_eq!(new(pattern, false, RuleDecision::Allow), Err(BadRule::Runner(pattern.into())));
        assert_eq!(new(pattern, true, RuleDecision::Allow), Ok(()), "{pattern}");
        assert_eq!(new(pattern, false, RuleDecision::Deny), Ok(()), "{pattern}");
    }
    assert_eq!(new("time cargo test", false, RuleDecision::Allow), Ok(()));
    assert_eq!(new("git ^x", false, RuleDecision::Allow), Err(BadRule::Words));
    assert!(!hit(&allow("bash", "git"), &bash("git ^x")));
}

#[test]
fn a_rule_never_says_yes_for_always() {
    let asked = |kinds: &[&str]| {
        let options: Vec<Value> = kinds.iter().map(|kind| json!({"id": kind, "kind": kind})).collect();
        json!({"tool": "Bash", "kind": "execute", "input": {"command": "ls"}, "options": options})
    };
    assert!(hit(&allow("bash", "ls"), &asked(&["allow_always", "allow_once"])));
    assert!(!hit(&allow("bash", "ls"), &asked(&["allow_always", "reject_once"])));
    assert!(hit(&deny("bash", "ls"), &asked(&["allow_always"])));
}
