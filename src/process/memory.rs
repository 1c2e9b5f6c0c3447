//! How much memory process trees hold. Only reads `/proc`.

use super::proc_table::ProcTable;
use std::fs;

/// Resident memory of a process and all below it, in bytes; 0 for one that is gone. Shared pages count once a process, so the
/// sum is an upper bound.
pub fn resident_bytes(pid: u32) -> u64 {
    let tree = ProcTable::read().descendants(pid);
    tree.into_iter().chain([pid]).map(resident_of).sum()
}

/// `VmRSS` in kB.
fn resident_of(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes =
        line.and_then(|rest| rest.split_whitespace().next()).and_then(|number| number.parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}
