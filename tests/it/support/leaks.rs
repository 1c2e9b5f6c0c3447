//! Looks for what should not be there any more.

use std::fs;
use std::time::{Duration, Instant};

/// Pids of everything alive whose environment carries the mark. Zombies have no environment and are not counted.
pub fn marked_processes(mark: &str) -> Vec<u32> {
    let wanted = format!("{}={mark}", agentpool::process::MARK_VARIABLE);
    pids().filter(|pid| environ_holds(*pid, wanted.as_bytes())).collect()
}

/// Pids of our own children that ended and that nobody collected.
pub fn our_zombies() -> Vec<u32> {
    pids()
        .filter(|pid| {
            let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
            let Some((_, rest)) = stat.rsplit_once(')') else { return false };
            let mut fields = rest.split_ascii_whitespace();
            fields.next() == Some("Z")
                && fields.next().and_then(|parent| parent.parse().ok()) == Some(std::process::id())
        })
        .collect()
}

/// True while the process exists and is no zombie.
pub fn is_alive(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .ok()
        .and_then(|stat| stat.rsplit_once(')').map(|(_, rest)| !rest.trim_start().starts_with('Z')))
        .unwrap_or(false)
}

/// Polls until `done` holds; panics with `what` after `deadline`.
pub async fn until(what: &str, deadline: Duration, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < deadline, "not within {deadline:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn pids() -> impl Iterator<Item = u32> {
    fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

fn environ_holds(pid: u32, wanted: &[u8]) -> bool {
    let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    environ.split(|byte| *byte == 0).any(|var| var == wanted)
}

/// Panics when anything alive carries the mark.
#[track_caller]
pub fn assert_nothing_left(mark: &str) {
    let left = marked_processes(mark);
    assert!(left.is_empty(), "still alive: {left:?}");
}
