//! F82: a program killed while it makes a worktree, anywhere between its first folder and its last file.

use super::{session, source};
use crate::support::repos::{Repos, git};
use agentpool::worktree::{ProjectSource, Worktrees};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const KILLS: u32 = 100;
const INNER: &str = "AGENTPOOL_TEST_TO_DIE_WHILE_IT_CREATES";
const NAME: &str = "worktree::born::f82_a_program_killed_at_a_hundred_points_of_a_creation_leaves_nothing_that_is_not_repaired";

/// A program of its own that makes one worktree in an empty data folder: both stores, the base, the files.
fn creator(data: &Path, user: &Path, id: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", NAME])
        .env(INNER, format!("{}|{}|{id}", data.display(), user.display()))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn f82_a_program_killed_at_a_hundred_points_of_a_creation_leaves_nothing_that_is_not_repaired() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    if let Some(told) = std::env::var_os(INNER) {
        let told = told.into_string().unwrap();
        let [data, user, id] = told.split('|').collect::<Vec<_>>().try_into().unwrap();
        let (all, project) = (Worktrees::new(data.into()), ProjectSource::Path(user.into()));
        runtime.block_on(all.ensure(&project, id.parse().unwrap())).expect("made");
        return;
    }
    let repos = Repos::with_files(30);
    let (mut unfinished, mut whole) = (0, Duration::ZERO);
    for round in 0..=KILLS {
        let (id, data) = (session(), repos.dir.path().join(format!("data-{round}")));
        let mut child = creator(&data, &repos.user, &id.to_string());
        let deadline = Instant::now() + Duration::from_secs(60);
        // Its first step is its folder; from there on the kills are spread over all that follows.
        while !data.exists() {
            assert!(Instant::now() < deadline, "round {round}: it never began");
            std::hint::spin_loop();
        }
        let begun = Instant::now();
        if round == 0 {
            assert!(child.wait().unwrap().success());
            whole = begun.elapsed();
        } else {
            while begun.elapsed() < whole * round / KILLS {
                std::hint::spin_loop();
            }
            child.kill().unwrap();
            unfinished += u32::from(!child.wait().unwrap().success());
        }
        runtime.block_on(async {
            let all = Worktrees::new(data.clone());
            let wt =
                all.ensure(&source(&repos), id).await.unwrap_or_else(|err| panic!("round {round}: {err}"));
            let head = format!("## {}", wt.branch);
            assert_eq!(git(&wt.path, &["status", "--porcelain", "--branch"]), head, "round {round}");
            let saved = all.checkpoint(&wt, "x").await.unwrap_or_else(|err| panic!("round {round}: {err}"));
            assert_eq!(saved.tree, git(&repos.user, &["rev-parse", "HEAD^{tree}"]), "round {round}");
        });
        std::fs::remove_dir_all(&data).unwrap();
    }
    assert!(
        unfinished > KILLS / 2,
        "the kills came too late to prove anything: {unfinished} of {KILLS} hit it at work"
    );
}
