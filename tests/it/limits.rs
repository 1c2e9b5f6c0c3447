//! Limits of a child's tree. What the system delegates decides which half of each promise is seen here: the limit that holds, or
//! the word that it does not.

use crate::support::leaks::{assert_nothing_left, is_alive, until};
use crate::support::shims::{marked_shims, script};
use agentpool::domain::turn::StopForce;
use agentpool::process::{ChildExit, Limits};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};

const ALL: Limits = Limits { memory_bytes: Some(64 << 20), pids_max: Some(20), cpu_percent: Some(50) };

#[tokio::test]
async fn memory_above_the_limit_ends_the_child_and_says_so_or_it_is_said_that_nothing_is_limited() {
    let (shims, mark) = marked_shims();
    let mut greedy = script("x=$(head -c 200000000 /dev/zero | tr '\\0' a); echo ${#x}");
    greedy.limits = Limits { memory_bytes: ALL.memory_bytes, ..Limits::default() };
    let mut child = shims.spawn(greedy.clone()).await.unwrap();
    let mut out = String::new();
    child.take_stdout().unwrap().read_to_string(&mut out).await.unwrap();
    let exit = child.exited().await;
    let unheld = shims.unheld_limits();
    if unheld.is_empty() {
        assert_eq!((exit, out.as_str()), (ChildExit::OverMemory, ""));
        assert!(exit.to_string().contains("it used more than limits.memory_mb"), "{exit}");
    } else {
        assert_eq!((exit, out.as_str()), (ChildExit::Code(0), "200000000\n"), "it runs unlimited");
        assert!(unheld[0].starts_with("limits"), "{unheld:?}");
        shims.spawn(greedy).await.unwrap().gone().await;
        assert_eq!(shims.unheld_limits(), unheld, "each is told once");
    }
    child.gone().await;
    assert_nothing_left(&mark);
}

#[tokio::test]
async fn a_limited_tree_has_a_group_of_its_own_without_its_shim_and_takes_it_along() {
    let (shims, mark) = marked_shims();
    let mut tree = script("trap '' TERM; setsid sleep 1000 & echo $!; while :; do sleep 1; done");
    tree.limits = ALL;
    let mut child = shims.spawn(tree).await.unwrap();
    let mut lines = BufReader::new(child.take_stdout().unwrap()).lines();
    let tool: u32 = lines.next_line().await.unwrap().unwrap().parse().unwrap();
    let Some(group) = group_of(child.pid()).filter(|group| group.to_string_lossy().contains("agentpool-"))
    else {
        let unheld = shims.unheld_limits();
        assert!(unheld.iter().any(|why| why.starts_with("limits are not held: ")), "{unheld:?}");
        return child.stop(StopForce::Kill).await;
    };
    assert_eq!(group_of(tool).as_ref(), Some(&group), "what the child starts is in it");
    let stat = fs::read_to_string(format!("/proc/{}/stat", child.pid())).unwrap();
    let shim: u32 = stat.rsplit_once(')').unwrap().1.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert_ne!(group_of(shim).as_ref(), Some(&group), "its shim is not");
    child.stop(StopForce::Kill).await;
    until("the tool is dead", Duration::from_secs(30), || !is_alive(tool)).await;
    let folder = place().join(group.strip_prefix("/").unwrap());
    assert!(!folder.exists(), "{} is left", folder.display());
    assert_nothing_left(&mark);
}

#[tokio::test]
async fn who_asks_for_no_limits_gets_no_group_and_no_warning() {
    let (shims, _) = marked_shims();
    let child = shims.spawn(script("sleep 1000")).await.unwrap();
    assert_eq!(group_of(child.pid()), group_of(std::process::id()));
    assert_eq!(shims.unheld_limits(), [] as [String; 0]);
    child.stop(StopForce::Kill).await;
}

/// The group of version 2, as `/proc` names it.
fn group_of(pid: u32) -> Option<PathBuf> {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    groups.lines().find_map(|line| line.strip_prefix("0::")).map(PathBuf::from)
}

/// Where groups of version 2 are mounted.
fn place() -> PathBuf {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let mount =
        mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2")).expect("a group was made");
    Path::new(mount.split(' ').nth(1).unwrap()).to_owned()
}
