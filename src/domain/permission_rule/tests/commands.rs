//! Commands that an allowing rule takes, and attacks that it does not.

use super::*;

#[test]
fn an_allowed_command_takes_arguments_and_nothing_that_a_shell_would_run_besides() {
    let rule = allow("bash", "cargo test");
    for good in [
        "cargo test",
        "cargo test -p x",
        "  cargo\ttest  --locked ",
        "cargo test\n",
        "cargo 'test' \"a b\"",
        "'cargo' test",
        "cargo test --test it -- permissions::",
    ] {
        assert!(hit(&rule, &bash(good)), "{good:?}");
    }
    for attack in [
        "cargo test; rm -rf /",
        "cargo test;rm -rf /",
        "cargo test && curl evil.example",
        "cargo test || true",
        "cargo test & sleep 1",
        "cargo test | sh",
        "cargo test |& sh",
        "cargo test $(rm -rf /)",
        "cargo test \"$(rm -rf /)\"",
        "cargo test `rm -rf /`",
        "cargo test $HOME",
        "cargo test ${IFS}x",
        "cargo test > /etc/passwd",
        "cargo test >> ~/.bashrc",
        "cargo test < /etc/shadow",
        "cargo test <(id)",
        "cargo test 2>&1",
        "cargo test <<< x",
        "cargo test\nrm -rf /",
        "cargo test\r\nrm -rf /",
        "cargo test\r",
        "cargo test \\\nx",
        "cargo test \\; rm",
        "cargo test {a,b}",
        "cargo test !x",
        "cargo test # a comment",
        "cargo test \0",
        "cargo test \u{FFFD}",
        "cargo test \u{E000}",
        "cargo test\u{0b}x",
        "cargo test\u{a0}x",
        "cargo test \u{2028}x",
        "cargo test 'unclosed",
        "cargo test \"unclosed",
        "(cargo test)",
        "{ cargo test; }",
        "cargo test-evil",
        "cargo test_evil",
        "cargo tests",
        "cargo",
        "cargo  build test",
        "cargo \"test -p x\"",
        "\"cargo test\"",
        "./cargo test",
        "/tmp/cargo test",
        "evil/cargo test",
        "PATH=/tmp cargo test",
        "RUSTC_WRAPPER=x cargo test",
        "env cargo test",
        "sudo cargo test",
        "time cargo test",
        "Cargo test",
        "CARGO TEST",
        "rm -rf / cargo test",
        "echo cargo test",
        "cаrgo test",
        "cargo\u{200b} test",
        "cargo \u{200b}test",
        "",
        " ",
        "\n",
    ] {
        assert!(!hit(&rule, &bash(attack)), "{attack:?}");
    }
    // `cargo""` is the word cargo, and `""test` is test: what a shell would see too.
    assert!(hit(&rule, &bash("cargo\"\" ''test")));
    assert!(!hit(&rule, &bash(&format!("cargo test {}", "x".repeat(20 << 10)))));
}

#[test]
fn the_command_counts_and_not_what_stands_beside_it() {
    let rule = allow("bash", "cargo test");
    for attack in [
        json!({"permission": "bash", "patterns": ["cargo test"], "metadata": {}}),
        json!({"permission": "bash", "patterns": ["cargo test"]}),
        json!({"permission": "bash", "title": "cargo test", "metadata": {"command": 5}}),
        json!({"permission": "edit", "patterns": ["a"], "metadata": {"command": "cargo test"}}),
        json!({"tool": "execute", "kind": "execute", "title": "cargo test", "input": null}),
        json!({"tool": "execute", "kind": "execute", "input": {"command": ["cargo", "test; rm"]}}),
        json!({"tool": "execute", "kind": "execute", "input": {"command": ["sh", "-c", "cargo test; rm"]}}),
        json!({"tool": "execute", "kind": "execute", "input": {"command": ["evil", "-c", "cargo test"]}}),
        json!({"tool": "execute", "kind": "execute", "input": {"command": "cargo test", "cwd": "/etc"}}),
        json!({"tool": "execute", "kind": "execute", "input": {"command": "cargo test", "cwd": "/srv/w/../x"}}),
        json!({"tool": "execute", "kind": "execute", "input": {"command": "cargo test", "cwd": 5}}),
        json!({"tool": "mcp__prod__run", "kind": "execute", "input": {"command": "cargo test"}}),
        json!({"tool": "mcp__prod__run", "input": {"command": "cargo test"}}),
        json!({"title": "cargo test"}),
        json!("cargo test"),
        Value::Null,
    ] {
        assert!(!hit(&rule, &attack), "{attack}");
    }
    for good in [
        json!({"tool": "Bash", "kind": "execute", "input": {"command": "cargo test"}}),
        json!({"tool": "execute", "kind": "execute", "input": {"command": "cargo test", "cwd": "/srv/w"}}),
        json!({"tool": "execute", "kind": "execute", "input": {"command": ["bash", "-lc", "cargo test"], "cwd": "/srv/w/sub"}}),
        json!({"tool": "execute", "kind": "execute", "input": {"command": ["cargo", "test"]}}),
    ] {
        assert!(hit(&rule, &good), "{good}");
    }
}
