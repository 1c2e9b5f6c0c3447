//! What `/proc` says of who descends from whom and who carries our mark. Reads only; never signals.

use super::MARK_VARIABLE;
use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::unix::ffi::OsStrExt;

/// A snapshot of the processes of the machine: pid → parent's pid.
pub(super) struct ProcTable {
    parents: HashMap<u32, u32>,
}

impl ProcTable {
    /// Reads `/proc` once. Processes that end meanwhile are left out.
    pub(super) fn read() -> Self {
        let parents = pids().filter_map(|pid| Some((pid, parent_of(pid)?))).collect();
        Self { parents }
    }

    pub(super) fn parent(&self, pid: u32) -> Option<u32> {
        self.parents.get(&pid).copied()
    }

    /// Everything below `root`, without it.
    pub(super) fn descendants(&self, root: u32) -> Vec<u32> {
        self.parents
            .keys()
            .copied()
            .filter(|&pid| pid != root && self.is_below(pid, |above| above == root))
            .collect()
    }

    /// Processes that carry the mark, but for `ours` and what is below one of them.
    pub(super) fn strays(&self, mark: &str, ours: &HashSet<u32>) -> Vec<u32> {
        self.parents
            .keys()
            .copied()
            .filter(|pid| !ours.contains(pid) && !self.is_below(*pid, |above| ours.contains(&above)))
            .filter(|&pid| carries(pid, mark))
            .collect()
    }

    fn is_below(&self, pid: u32, root: impl Fn(u32) -> bool) -> bool {
        // A snapshot is not taken at one instant, so that a reused pid could close a circle: hence the bound.
        let mut at = pid;
        for _ in 0..self.parents.len() {
            match self.parents.get(&at) {
                Some(&above) if root(above) => return true,
                Some(&above) if above != 0 => at = above,
                Some(_) | None => return false,
            }
        }
        false
    }
}

fn pids() -> impl Iterator<Item = u32> {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

/// The fourth field of `stat`; the second, the name, may hold blanks and parentheses, hence the search from the end.
fn parent_of(pid: u32) -> Option<u32> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let after_name = stat.iter().rposition(|&byte| byte == b')')? + 1;
    let mut fields = stat[after_name..].split(|&byte| byte == b' ').filter(|field| !field.is_empty());
    str::from_utf8(fields.nth(1)?).ok()?.parse().ok()
}

/// A zombie has no environment any more and carries nothing.
fn carries(pid: u32, mark: &str) -> bool {
    let wanted = [MARK_VARIABLE.as_bytes(), b"=", std::ffi::OsStr::new(mark).as_bytes()].concat();
    fs::read(format!("/proc/{pid}/environ"))
        .is_ok_and(|environ| environ.split(|&byte| byte == 0).any(|var| var == wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descent_is_followed_over_generations_and_ends_in_a_circle() {
        let table = ProcTable { parents: HashMap::from([(2, 1), (3, 2), (4, 3), (5, 1), (8, 9), (9, 8)]) };
        let mut below = table.descendants(2);
        below.sort_unstable();
        assert_eq!(below, [3, 4]);
        assert!(table.descendants(7).is_empty());
    }

    #[test]
    fn we_are_our_parents_child() {
        let table = ProcTable::read();
        assert!(table.descendants(std::os::unix::process::parent_id()).contains(&std::process::id()));
    }
}
