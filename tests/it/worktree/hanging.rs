//! F88: a remote that takes the connection and never answers.

use super::session;
use crate::support::repos::Repos;
use agentpool::worktree::{ProjectSource, WorktreeError, Worktrees};
use std::time::Duration;
use tokio::net::TcpListener;

/// Whether a process of this machine names that text in its command line.
fn somebody_names(text: &str) -> bool {
    let lines = std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    lines.into_iter().any(|line| String::from_utf8_lossy(&line).contains(text))
}

#[tokio::test]
async fn f88_a_remote_that_never_answers_is_given_up_in_time_with_all_that_was_started_for_it() {
    let repos = Repos::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap().to_string();
    let (heard, mut hears) = tokio::sync::watch::channel(0);
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((way, _)) = listener.accept().await {
            held.push(way);
            heard.send_modify(|count| *count += 1);
        }
    });
    let all = Worktrees::with_deadline(repos.data.clone(), Duration::from_secs(2));
    for (round, scheme) in ["git", "http"].into_iter().enumerate() {
        let url = ProjectSource::Url(format!("{scheme}://{at}/x.git"));
        let made = tokio::time::timeout(Duration::from_secs(60), all.ensure(&url, session())).await;
        let refused = made.expect("it ends by its own deadline").expect_err(scheme);
        assert!(
            matches!(refused, WorktreeError::Timeout { what: "fetch the project", secs: 2 }),
            "{refused:?}"
        );
        assert!(refused.to_string().contains("check that"), "{refused}");
        hears.wait_for(|count| *count > round).await.expect("git did connect");
        while somebody_names(&at) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    // Another project is not held up, and this one is tried anew.
    let fine = all.ensure(&ProjectSource::Path(repos.user.clone()), session()).await.expect("made");
    assert!(fine.path.join("a.txt").exists());
}
