//! What rules match, and above all what they do not: lists of attacks.

mod commands;
mod evasions;

use super::*;
use crate::domain::permission::Access;
use serde_json::json;

const WORKTREE: Option<&str> = Some("/srv/w");

fn rule(decision: RuleDecision, tool: &str, pattern: Option<&str>, exact: bool) -> StandingRule {
    let text = RuleText { tool: tool.into(), pattern: pattern.map(str::to_owned), exact };
    StandingRule::new(Uuid::nil(), text, decision)
        .unwrap_or_else(|error| panic!("{tool} {pattern:?}: {error}"))
}

fn allow(tool: &str, pattern: &str) -> StandingRule {
    rule(RuleDecision::Allow, tool, Some(pattern), false)
}

fn deny(tool: &str, pattern: &str) -> StandingRule {
    rule(RuleDecision::Deny, tool, Some(pattern), false)
}

fn bash(command: &str) -> Value {
    json!({"permission": "bash", "patterns": ["cargo test"], "metadata": {"command": command}, "title": "bash: cargo test"})
}

fn edit(paths: &[&str]) -> Value {
    json!({"permission": "edit", "patterns": paths, "metadata": {}})
}

fn hit(rule: &StandingRule, payload: &Value) -> bool {
    ruling_on(std::slice::from_ref(rule), payload, WORKTREE).is_some()
}

#[test]
fn an_allowed_path_stays_in_the_worktree_and_in_its_pattern() {
    let rule = allow("edit", "src/**");
    for good in
        [&["src/a.rs"][..], &["src/a/b/c.rs"], &["/srv/w/src/a.rs"], &["./src//a.rs"], &["src/a", "src/b"]]
    {
        assert!(hit(&rule, &edit(good)), "{good:?}");
    }
    for attack in [
        &["docs/a"][..],
        &["src/a", "docs/b"],
        &["src/../docs/a"],
        &["src/.."],
        &["../src/a"],
        &["/src/a"],
        &["/etc/passwd"],
        &["/srv/w2/src/a"],
        &["/srv/wsrc/a"],
        &["/srv/w/../x/src/a"],
        &["/srv/x/src/a"],
        &["src/.git/hooks/pre-commit"],
        &["src/.GIT/config"],
        &["~/src/a"],
        &["~root/src/a"],
        &["src/a\n"],
        &["src/a\0"],
        &["Src/a"],
        &["asrc/a"],
        &[],
        &[""],
    ] {
        assert!(!hit(&rule, &edit(attack)), "{attack:?}");
    }
    let moved = json!({"permission": "edit", "patterns": ["src/a"],
        "metadata": {"files": [{"filePath": "/srv/w/src/a", "movePath": "/srv/w/.git/hooks/x"}]}});
    assert!(!hit(&rule, &moved));
    let elsewhere =
        json!({"permission": "edit", "patterns": ["src/a"], "metadata": {"filepath": "/etc/passwd"}});
    assert!(!hit(&rule, &elsewhere));
    assert!(!hit(&rule, &json!({"permission": "edit", "patterns": "src/a"})));
    assert!(
        ruling_on(&[rule], &edit(&["/srv/w/src/a"]), None).is_none(),
        "where the worktree is, is not known"
    );
    let all = super::StandingRule::new(
        Uuid::nil(),
        RuleText { tool: "Edit".into(), pattern: None, exact: false },
        RuleDecision::Allow,
    )
    .unwrap();
    assert!(
        hit(&all, &edit(&["any/where"]))
            && !hit(&all, &edit(&["/etc/passwd"]))
            && !hit(&all, &edit(&[".git"]))
    );
    let outside = json!({"permission": "external_directory", "patterns": ["/etc/*"], "metadata": {"filepath": "/etc/x"}});
    assert!(!hit(&rule_for_all("external_directory"), &outside), "outside is never allowed for always");
}

fn rule_for_all(tool: &str) -> StandingRule {
    rule(RuleDecision::Allow, tool, None, false)
}

#[test]
fn patterns_of_paths_mean_what_they_say() {
    for (pattern, path, fits) in [
        ("src/*.rs", "src/a.rs", true),
        ("src/*.rs", "src/a/b.rs", false),
        ("src/?.rs", "src/a.rs", true),
        ("src/?.rs", "src/ab.rs", false),
        ("**", "a/b/c", true),
        ("**/*.md", "a.md", true),
        ("**/*.md", "x/y/a.md", true),
        ("**/*.md", "x/y/a.mdx", false),
        ("src/**/mod.rs", "src/mod.rs", true),
        ("src/**/mod.rs", "src/a/b/mod.rs", true),
        ("src/**/mod.rs", "src/a/b/mod.rs/x", false),
        ("a/**/b/**/c", "a/x/b/y/b/c", true),
        ("a/**/b/**/c", "a/x/c", false),
        ("src", "src", true),
        ("src", "src/a", false),
        ("*a*b*c*", "xaxbxcx", true),
        ("*a*b*c*", "xaxcxbx", false),
        ("a**b", "axxb", true),
        ("a**b", "ax/xb", false),
        ("é?", "éü", true),
    ] {
        assert_eq!(hit(&allow("edit", pattern), &edit(&[path])), fits, "{pattern} {path}");
    }
    let literal = rule(RuleDecision::Allow, "edit", Some("src/[id]/*.ts"), true);
    assert!(hit(&literal, &edit(&["src/[id]/*.ts"])) && !hit(&literal, &edit(&["src/[id]/a.ts"])));
}

#[test]
fn a_name_alone_allows_that_tool_and_no_other() {
    let fetch = rule_for_all("webfetch");
    assert!(hit(
        &fetch,
        &json!({"permission": "webfetch", "patterns": ["https://x"], "metadata": {"url": "https://x"}})
    ));
    assert!(!hit(&fetch, &json!({"permission": "websearch", "patterns": ["x"]})));
    assert!(!hit(&fetch, &bash("webfetch")));
    assert!(!hit(&fetch, &json!({"tool": "webfetch", "input": {"command": "rm -rf /"}})));
    assert!(hit(
        &rule_for_all("MCP__db__query"),
        &json!({"tool": "mcp__db__query", "kind": "tool", "input": {}})
    ));
    // A kind is a name as well: claude's Write is an edit.
    let write = json!({"tool": "Write", "kind": "edit", "input": {"file_path": "/srv/w/src/a"}, "locations": [], "diffs": []});
    assert!(hit(&allow("edit", "src/**"), &write) && hit(&allow("write", "src/*"), &write));
    assert!(!hit(&allow("read", "src/**"), &write));
}

#[test]
fn a_denial_finds_its_words_wherever_they_stand_and_refuses_what_does_not_say() {
    let rule = deny("bash", "git push");
    for bad in [
        "git push",
        "git push --force",
        "cd x && git push",
        "true;git push",
        "$(git push)",
        "(git push)",
        "sudo git push",
        "/usr/bin/git push",
        "g''it \"push\"",
        "git pu\\\nsh",
        "git \\\n push",
        "bash -c 'git push'",
        "echo x | xargs git push",
    ] {
        assert!(hit(&rule, &bash(bad)), "{bad:?}");
    }
    for good in ["git pull", "git status", "echo pushed", "git push-evil", "cargo test && git commit -m x"] {
        assert!(!hit(&rule, &bash(good)), "{good:?}");
    }
    assert!(hit(&rule, &json!({"tool": "execute", "kind": "execute", "input": null})), "it does not say");
    assert!(
        hit(&rule, &json!({"tool": "mcp__x__run", "input": {"command": "git push"}})),
        "whatever it is called"
    );
    let exact = self::rule(RuleDecision::Deny, "bash", Some("git push"), true);
    assert!(hit(&exact, &bash("git  push")) && !hit(&exact, &bash("git push --dry-run")));
    assert!(hit(&exact, &bash("true; git push")));
    let secrets = deny("edit", "secrets/**");
    for bad in [
        &["secrets/a"][..],
        &["src/a", "secrets/a"],
        &["src/../secrets/a"],
        &["/srv/w/secrets/a"],
        &["/private/srv/w/secrets/a"],
        &[],
    ] {
        assert!(hit(&secrets, &edit(bad)), "{bad:?}");
    }
    assert!(!hit(&secrets, &edit(&["src/secrets.rs"])) && !hit(&secrets, &edit(&["secrets/../src/a"])));
    assert!(hit(&self::rule(RuleDecision::Deny, "bash", None, false), &bash("ls")));
}

#[test]
fn what_forbids_beats_what_allows_and_only_tools_are_answered() {
    let rules = [allow("bash", "git"), deny("bash", "git push"), allow("bash", "git push")];
    let decided = |command: &str| ruling_on(&rules, &bash(command), WORKTREE).map(StandingRule::decision);
    assert_eq!(decided("git push"), Some(RuleDecision::Deny));
    assert_eq!(decided("git status"), Some(RuleDecision::Allow));
    assert_eq!(decided("ls"), None);
    let asked = |kind| PermissionRequest {
        agent_request_id: "1".into(),
        kind,
        access: Access::Unknown,
        title: "bash: git status".into(),
        payload: bash("git status"),
    };
    assert!(ruling(&rules, &asked(PermissionKind::Tool), WORKTREE).is_some());
    for kind in [PermissionKind::Question, PermissionKind::Elicitation, PermissionKind::Plan] {
        assert!(ruling(&rules, &asked(kind), WORKTREE).is_none(), "{kind:?}");
        assert_eq!(derived(kind, &bash("ls"), WORKTREE), Err(NoRule::NoTool));
    }
    let PermissionDecision::Deny { message: Some(words) } = rules[1].answer() else { panic!("it denies") };
    assert!(words.contains(&Uuid::nil().to_string()) && words.contains("bash git push"), "{words}");
    assert_eq!(rules[0].answer(), PermissionDecision::AllowOnce);
}

#[test]
fn a_rule_that_would_not_be_safe_cannot_be_made() {
    let new = |tool: &str, pattern: Option<&str>, exact, decision| {
        let text = RuleText { tool: tool.into(), pattern: pattern.map(str::to_owned), exact };
        StandingRule::new(Uuid::nil(), text, decision).map(|_| ())
    };
    let allow = |tool: &str, pattern: Option<&str>| new(tool, pattern, false, RuleDecision::Allow);
    for tool in ["", " ", "a b", "bash\n", "ba\0sh", &"x".repeat(101), "é"] {
        assert_eq!(allow(tool, None), Err(BadRule::Tool), "{tool:?}");
    }
    assert_eq!(allow("tool", None), Err(BadRule::Nameless("tool".into())));
    assert_eq!(allow("Bash", None), Err(BadRule::ShellWithoutWords));
    assert_eq!(new("bash", None, false, RuleDecision::Deny), Ok(()));
    assert_eq!(new("edit", None, true, RuleDecision::Allow), Err(BadRule::ExactWithoutPattern));
    assert_eq!(allow("edit", Some(&"x".repeat(1001))), Err(BadRule::Long));
    for pattern in ["", " ", "ls; rm", "ls | sh", "ls $(x)", "ls\nrm", "'ls", "ls > x", "ls \0"] {
        assert_eq!(allow("execute", Some(pattern)), Err(BadRule::Words), "{pattern:?}");
    }
    for pattern in [
        "", "/etc/**", "../x", "src/../x", "src/", "./src", "a//b", "{a,b}", "[ab]", "~/x", ".git/**",
        "a\\b", "a\0",
    ] {
        assert_eq!(allow("edit", Some(pattern)), Err(BadRule::Path), "{pattern:?}");
    }
    let by_hand = |decision| {
        let text = RuleText { tool: "Bash".into(), pattern: Some("ls; rm".into()), exact: false };
        StandingRule::of_row(Uuid::nil(), text, decision)
    };
    assert_eq!(by_hand(RuleDecision::Allow), None);
    assert!(hit(&by_hand(RuleDecision::Deny).unwrap(), &bash("anything")), "a denial is never lost");
}

#[test]
fn a_rule_derived_from_a_request_allows_that_request_and_no_longer_one() {
    let made = |payload: &Value| {
        let text = derived(PermissionKind::Tool, payload, WORKTREE)?;
        Ok(StandingRule::new(Uuid::nil(), text, RuleDecision::Allow).expect("it was one"))
    };
    let rule = made(&bash(" rm 'a b'\n")).unwrap();
    assert_eq!(rule.text().pattern.as_deref(), Some("rm 'a b'"));
    assert!(
        hit(&rule, &bash("rm \"a b\""))
            && !hit(&rule, &bash("rm 'a b' -rf /"))
            && !hit(&rule, &bash("rm a b"))
    );
    // Quotes make a star a star: what was allowed for one file is not allowed for all.
    for (quoted, bare) in
        [("rm '*'", "rm *"), ("rm \"~\"", "rm ~"), ("rm 'a?'", "rm a?"), ("rm '[a]'", "rm [a]")]
    {
        let rule = made(&bash(quoted)).unwrap();
        assert!(hit(&rule, &bash(&quoted.replace('\'', "\""))) && !hit(&rule, &bash(bare)), "{quoted}");
        assert!(!hit(&allow("bash", quoted), &bash(&format!("{bare} b"))), "{quoted}");
        assert!(
            hit(&deny("bash", quoted), &bash(bare)) && hit(&deny("bash", bare), &bash(quoted)),
            "{quoted}"
        );
    }
    let rule = made(&json!({"permission": "edit", "patterns": ["src/[x].ts"], "metadata": {"filepath": "/srv/w/src/[x].ts"}}))
        .unwrap();
    assert!(hit(&rule, &edit(&["src/[x].ts"])) && !hit(&rule, &edit(&["src/x.ts"])));
    for (payload, why) in [
        (bash("ls; rm"), NoRule::NotPlain),
        (bash(&format!("ls {}", "x".repeat(1000))), NoRule::NotPlain),
        (json!({"permission": "bash", "patterns": ["ls"]}), NoRule::Untold),
        (json!({"tool": "mcp__x__run", "input": {"command": "ls"}}), NoRule::NotPlain),
        (json!({"title": "ls"}), NoRule::Untold),
        (edit(&["a", "b"]), NoRule::NotOneFile),
        (edit(&["/etc/passwd"]), NoRule::NotOneFile),
        (edit(&[".git/config"]), NoRule::NotOneFile),
        (json!({"permission": "edit"}), NoRule::Untold),
        (json!({"permission": "webfetch", "patterns": ["https://x"]}), NoRule::NameAlone),
    ] {
        assert_eq!(made(&payload), Err(why), "{payload}");
    }
}
