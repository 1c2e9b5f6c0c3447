//! Whatever is killed, deleted or left behind, the next call puts it right.

use super::{ensured, hub_of, ours_of, session, source};
use crate::support::repos::{Repos, commit_all, files, git, write};
use agentpool::worktree::{INTERRUPTED, ProjectSource, RemoveMode, Worktree, Worktrees};
use std::os::unix::process::CommandExt;
use std::time::{Duration, Instant};

#[tokio::test]
async fn f80_a_worktree_deleted_by_hand_comes_back_from_its_last_checkpoint_and_says_so() {
    let repos = Repos::new();
    let (all, wt) = ensured(&repos, session()).await;
    write(&wt.path, "work.txt", "w\n");
    all.checkpoint(&wt, "work").await.expect("saved");
    let state = files(&wt.path);
    std::fs::remove_dir_all(&wt.path).unwrap();
    let again = all.ensure(&source(&repos), wt.session).await.expect("made again");
    assert!(again.notices.iter().any(|n| n.contains("made again")), "{:?}", again.notices);
    assert_eq!(files(&again.path), state);
    assert_eq!(git(&again.path, &["status", "--porcelain"]), "?? work.txt");
}

/// What git leaves when it is killed while it adds the very worktree that `ensure` is about to make.
#[tokio::test]
async fn f82_what_a_killed_worktree_add_leaves_is_repaired() {
    let repos = Repos::with_files(400);
    let (all, first) = ensured(&repos, session()).await;
    let hub = hub_of(&first);
    let (mut debris, mut full) = (0, Duration::ZERO);
    for round in 0..31 {
        let id = session();
        let tree = repos.data.canonicalize().unwrap().join("worktrees").join(id.to_string());
        let branch = format!("agentpool/{}", &id.0.simple().to_string()[20..]);
        let start = Instant::now();
        let mut child = std::process::Command::new("git")
            .args(["-c", "safe.directory=*", "--git-dir"])
            .arg(&hub)
            .args(["worktree", "add", "-q", "--lock", "-b", &branch])
            .arg(&tree)
            .arg(&first.base_commit)
            .stderr(std::process::Stdio::null())
            // Killed with the git that it starts to fill the worktree, which would go on for a while.
            .process_group(0)
            .spawn()
            .unwrap();
        if round == 0 {
            // How long a whole one takes here: the kills are spread over it.
            assert!(child.wait().unwrap().success());
            full = start.elapsed();
        } else {
            let at = full * round / 30;
            while start.elapsed() < at {
                std::hint::spin_loop();
            }
            let group = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
            let _ = nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL);
            child.wait().unwrap();
        }
        debris += u32::from(tree.exists());
        let wt = all.ensure(&source(&repos), id).await.unwrap_or_else(|err| panic!("round {round}: {err}"));
        assert_eq!(git(&wt.path, &["status", "--porcelain"]), "", "round {round}");
        assert_eq!(git(&wt.path, &["symbolic-ref", "--short", "HEAD"]), wt.branch, "round {round}");
        git(&wt.path, &["commit", "-q", "--allow-empty", "-m", "the agent's git works"]);
        all.checkpoint(&wt, "x").await.unwrap_or_else(|err| panic!("round {round}: {err}"));
    }
    assert!(debris > 10, "the kills came too early to prove anything: {debris} of 31 left something");
}

/// A dropped future stands in for a kill: it stops between any two steps, and its git is killed.
#[tokio::test]
async fn f82_every_operation_cut_off_anywhere_is_finished_by_the_next_ensure() {
    let repos = Repos::with_files(200);
    let (all, wt) = ensured(&repos, session()).await;
    write(&wt.path, "keep.txt", "k\n");
    let saved = all.checkpoint(&wt, "state").await.expect("saved");
    let state = files(&wt.path);
    for round in 0..25_u64 {
        let cut = Duration::from_micros(500 + round * 1_800);
        let new = session();
        let _ = tokio::time::timeout(cut, all.ensure(&source(&repos), new)).await;
        let made = all.ensure(&source(&repos), new).await.unwrap_or_else(|err| panic!("{round}: {err}"));
        assert_eq!(git(&made.path, &["status", "--porcelain"]), "", "{round}");

        write(&wt.path, "a.txt", &format!("{round}\n"));
        write(&wt.path, &format!("new-{round}.txt"), "n\n");
        let _ = tokio::time::timeout(cut, all.checkpoint(&wt, "cut")).await;
        all.checkpoint(&wt, INTERRUPTED).await.unwrap_or_else(|err| panic!("{round}: {err}"));
        let _ = tokio::time::timeout(cut, all.restore(&wt, &saved.commit)).await;
        all.ensure(&source(&repos), wt.session).await.unwrap_or_else(|err| panic!("{round}: {err}"));
        all.restore(&wt, &saved.commit).await.unwrap_or_else(|err| panic!("{round}: {err}"));
        assert_eq!(files(&wt.path), state, "{round}");

        let _ = tokio::time::timeout(cut, all.remove(&made, RemoveMode::Force)).await;
        let again = all.ensure(&source(&repos), new).await.unwrap_or_else(|err| panic!("{round}: {err}"));
        assert_eq!(git(&again.path, &["status", "--porcelain"]), "", "{round}");
    }
}

/// A real SIGKILL: the git that ran at that moment lives on, and holds the lock until it is done.
#[test]
fn f82_after_sigkill_of_the_whole_program_the_next_one_finishes_what_it_began() {
    const INNER: &str = "AGENTPOOL_TEST_TO_BE_KILLED";
    let runtime = tokio::runtime::Runtime::new().unwrap();
    if let Some(told) = std::env::var_os(INNER) {
        let told = told.into_string().unwrap();
        let [data, user, id, first] = told.split('|').collect::<Vec<_>>().try_into().unwrap();
        runtime.block_on(async {
            let (all, project) = (Worktrees::new(data.into()), ProjectSource::Path(user.into()));
            let wt = all.ensure(&project, id.parse().unwrap()).await.expect("ensured");
            loop {
                write(&wt.path, "a.txt", &uuid::Uuid::new_v4().to_string());
                all.checkpoint(&wt, "turn").await.expect("saved");
                all.restore(&wt, first).await.expect("restored");
                let other = all.ensure(&project, session()).await.expect("another");
                all.remove(&other, RemoveMode::Force).await.expect("removed");
            }
        })
    }
    let repos = Repos::with_files(300);
    runtime.block_on(async {
        let (all, wt) = ensured(&repos, session()).await;
        write(&wt.path, "keep.txt", "k\n");
        let first = all.checkpoint(&wt, "first").await.expect("saved");
        let state = files(&wt.path);
        let told = [
            repos.data.display().to_string(),
            repos.user.display().to_string(),
            wt.session.to_string(),
            first.commit.clone(),
        ];
        for round in 0..20_u64 {
            let name =
                "worktree::kill::f82_after_sigkill_of_the_whole_program_the_next_one_finishes_what_it_began";
            let seen = numbered(&wt);
            let mut child = std::process::Command::new(std::env::current_exe().unwrap())
                .args(["--exact", name])
                .env(INNER, told.join("|"))
                .stdout(std::process::Stdio::null())
                .spawn()
                .unwrap();
            // It is at work once there is a new checkpoint; then it dies at some other point of its round each time.
            let deadline = Instant::now() + Duration::from_secs(30);
            while numbered(&wt) <= seen {
                assert!(Instant::now() < deadline, "round {round}: the child never got to work");
                std::hint::spin_loop();
            }
            let start = Instant::now();
            while start.elapsed() < Duration::from_micros(round * 5_300) {
                std::hint::spin_loop();
            }
            child.kill().unwrap();
            child.wait().unwrap();
            let again =
                all.ensure(&source(&repos), wt.session).await.unwrap_or_else(|err| panic!("{round}: {err}"));
            all.checkpoint(&again, INTERRUPTED).await.unwrap_or_else(|err| panic!("{round}: {err}"));
            all.restore(&again, &first.commit).await.unwrap_or_else(|err| panic!("{round}: {err}"));
            assert_eq!(files(&wt.path), state, "{round}");
            git(&wt.path, &["status"]);
        }
        git(&ours_of(&wt), &["fsck", "--strict"]);
    });
}

/// The highest number of a session's checkpoints.
fn numbered(wt: &Worktree) -> u64 {
    let refs = ours_of(wt).join("refs/agentpool").join(wt.session.to_string());
    let number = |entry: std::io::Result<std::fs::DirEntry>| entry.ok()?.file_name().to_str()?.parse().ok();
    std::fs::read_dir(refs).unwrap().filter_map(number).max().unwrap_or(0)
}

#[tokio::test]
async fn a_head_or_a_branch_that_a_power_cut_emptied_is_put_back() {
    let repos = Repos::new();
    let (all, wt) = ensured(&repos, session()).await;
    write(&wt.path, "work.txt", "w\n");
    let head = commit_all(&wt.path, "work");
    all.checkpoint(&wt, "work").await.expect("saved");
    let admin = hub_of(&wt).join("worktrees").join(wt.session.to_string());
    for lost in [
        admin.join("HEAD"),
        hub_of(&wt).join("refs/heads").join(&wt.branch),
        admin.join("index"),
        repos.data.join("git/sessions").join(wt.session.to_string()).join("index"),
    ] {
        for gone in [false, true] {
            if gone {
                std::fs::remove_file(&lost).unwrap()
            } else {
                std::fs::write(&lost, "").unwrap()
            }
            all.ensure(&source(&repos), wt.session).await.expect("repaired");
            assert_eq!(git(&wt.path, &["rev-parse", "HEAD"]), head, "{lost:?}");
            assert_eq!(git(&wt.path, &["symbolic-ref", "--short", "HEAD"]), wt.branch, "{lost:?}");
            assert_eq!(git(&wt.path, &["status", "--porcelain"]), "", "{lost:?}");
        }
    }
}

#[tokio::test]
async fn f86_an_agents_lock_file_goes_when_it_is_old_and_stays_when_it_is_young() {
    let repos = Repos::new();
    let (all, wt) = ensured(&repos, session()).await;
    let lock = hub_of(&wt).join("worktrees").join(wt.session.to_string()).join("index.lock");
    let file = std::fs::File::create(&lock).unwrap();
    all.ensure(&source(&repos), wt.session).await.expect("ensured");
    assert!(lock.exists());
    file.set_modified(std::time::SystemTime::now() - Duration::from_secs(120)).unwrap();
    let again = all.ensure(&source(&repos), wt.session).await.expect("ensured");
    assert!(!lock.exists() && again.notices.iter().any(|n| n.contains("index.lock")));
}
