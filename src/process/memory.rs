//! How much memory process trees hold and how long processes have worked. Only reads `/proc`.

use super::proc_table::ProcTable;
use std::collections::{HashMap, HashSet};
use std::fs;

/// What children of ours hold, in bytes: each page in proportion to how many processes share it where the system tells that,
/// else whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Weights {
    /// By child, each with everything that it started, orphans included.
    pub by_child: HashMap<u32, u64>,
    /// Processes with our mark that are below nobody of ours: a killed shim left them, and a sweep is on its way.
    pub strays: u64,
}

/// Orphans of a child hang below its shim, which is why its tree is whatever is below that.
pub(super) fn weigh(table: &ProcTable, children: &[u32], shims: &HashSet<u32>, mark: &str) -> Weights {
    let tree = |child: u32| match table.parent(child).filter(|parent| shims.contains(parent)) {
        Some(shim) => table.descendants(shim),
        None => table.descendants(child).into_iter().chain([child]).collect(),
    };
    let by_child = children.iter().map(|child| (*child, tree(*child).into_iter().map(share_of).sum()));
    let ours = shims.iter().copied().chain([std::process::id()]).collect();
    Weights {
        by_child: by_child.collect(),
        strays: table.strays(mark, &ours).into_iter().map(share_of).sum(),
    }
}

/// Resident memory of a process and all below it, in bytes; 0 for one that is gone. Shared pages count once a process, so the
/// sum is an upper bound.
pub fn resident_bytes(pid: u32) -> u64 {
    let tree = ProcTable::read().descendants(pid);
    tree.into_iter().chain([pid]).map(resident_of).sum()
}

/// How long all threads of a process have worked, in ticks of the system's clock (mostly 10 ms); `None` for one that is gone.
pub fn worked_ticks(pid: u32) -> Option<u64> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    // The second field, the name, may hold blanks and parentheses, hence the search from the end. Fields 14 and 15 are
    // the time in user mode and in the system.
    let after_name = stat.iter().rposition(|&byte| byte == b')')? + 1;
    let fields = str::from_utf8(&stat[after_name..]).ok()?.split_whitespace().skip(11).take(2);
    fields.map(|field| field.parse::<u64>().ok()).sum()
}

/// `Pss` of `smaps_rollup`, which another account's process may refuse; then what is resident.
fn share_of(pid: u32) -> u64 {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    kilobytes(&rollup, "Pss:").unwrap_or_else(|| resident_of(pid))
}

fn resident_of(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    kilobytes(&status, "VmRSS:").unwrap_or(0)
}

/// The bytes of a line like `VmRSS:   12 kB`.
fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(rest.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_works_is_seen_to() {
        let me = std::process::id();
        let before = worked_ticks(me).unwrap();
        while worked_ticks(me).unwrap() == before {
            std::hint::black_box(fs::read("/proc/self/stat").unwrap());
        }
        assert_eq!(worked_ticks(0), None);
        assert!(resident_bytes(me) > 1 << 20);
    }

    #[test]
    fn a_share_is_read_from_the_line_of_that_name_and_is_no_more_than_what_is_resident() {
        let rollup =
            "00400000-7ffd ---p 00000000 00:00 0 [rollup]\nRss:  20 kB\nPss:   7 kB\nPss_Dirty: 1 kB\n";
        assert_eq!(kilobytes(rollup, "Pss:"), Some(7 << 10));
        assert_eq!(kilobytes("", "Pss:"), None);
        let me = std::process::id();
        let weights = weigh(&ProcTable::read(), &[me], &HashSet::new(), "no-such-mark");
        assert!(weights.by_child[&me] > 1 << 20 && weights.strays == 0, "{weights:?}");
    }
}
