//! What the agent asks of us: files and commands, in its worktree and nowhere else.

use super::over;
use crate::support::acp::FixtureAgent;
use crate::support::conformance::Line;
use crate::support::leaks::marked_processes;
use agentpool::domain::mcp::{McpServer, McpTransport};
use std::os::unix::fs::symlink;
use std::time::Duration;

/// F75.
#[tokio::test]
async fn files_are_the_worktrees_alone() {
    let subject = FixtureAgent::new("");
    let (line, other) = (Line::open(&subject).await, Line::open(&subject).await);
    let inside = line.worktree.join("dir/a.txt");
    let told = line.ask(&subject, &format!("CLIENT:write {} hello", inside.display())).await;
    assert!(told.text().contains("written"), "{}", told.text());
    assert!(std::fs::read_to_string(&inside).unwrap().starts_with("hello"));
    let told = line.ask(&subject, &format!("CLIENT:read {}", inside.display())).await;
    assert!(told.text().contains("hello"), "{}", told.text());
    std::fs::write(other.worktree.join("secret"), "s3cret").unwrap();
    symlink(&other.worktree, line.worktree.join("way")).unwrap();
    let evil = format!("{}-evil", line.worktree.display());
    std::fs::create_dir(&evil).unwrap();
    std::fs::write(format!("{evil}/secret"), "s3cret").unwrap();
    let outside = [
        other.worktree.join("secret").display().to_string(),
        line.worktree.join("way/secret").display().to_string(),
        format!("{}/../{}/secret", line.worktree.display(), other.worktree.file_name().unwrap().display()),
        format!("{evil}/secret"),
        "/etc/passwd".to_owned(),
    ];
    for path in outside {
        for way in ["read", "write"] {
            let told = line.ask(&subject, &format!("CLIENT:{way} {path} x")).await;
            assert!(told.text().contains("worktree"), "{way} {path}: {}", told.text());
            assert!(!told.text().contains("s3cret"));
        }
    }
    assert_eq!(std::fs::read_to_string(format!("{evil}/secret")).unwrap(), "s3cret");
    over(subject).await;
}

#[tokio::test]
async fn commands_run_in_the_worktree_with_bounded_output_and_end_with_the_agent() {
    let subject = FixtureAgent::new("");
    let line = Line::open(&subject).await;
    let told = line.ask(&subject, "TERMINAL: pwd; echo err >&2; exit 3").await;
    let text = told.text();
    assert!(
        text.contains(line.worktree.to_str().unwrap()) && text.contains("err") && text.contains('3'),
        "{text}"
    );
    let told = line.ask(&subject, "TERMINAL: head -c 5000000 /dev/zero | tr '\\0' x").await;
    assert!(told.text().len() <= (1 << 20) + 1000, "{} bytes", told.text().len());
    let running = line.begin(&subject, "TERMINAL: setsid sleep 300 & sleep 300", 64);
    while !marked_processes(&subject.mark).iter().any(|pid| is_sleep(*pid)) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    drop(running);
    over(subject).await;
}

fn is_sleep(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.starts_with("sleep"))
}

#[tokio::test]
async fn every_conversation_gets_the_mcp_servers() {
    let subject = FixtureAgent::with("", |config| {
        let stdio = McpTransport::Stdio {
            command: "/bin/true".into(),
            args: vec!["-x".into()],
            env: vec![("K".into(), "v".into())],
        };
        config.mcp_servers.push(McpServer { name: "tools".into(), transport: stdio });
    });
    let line = Line::open(&subject).await;
    assert!(line.ask(&subject, "MCP").await.text().contains("tools"));
    over(subject).await;
}
