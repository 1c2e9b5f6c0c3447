//! How much memory process trees hold and how long processes have worked. Only reads `/proc`.

use super::proc_table::ProcTable;
use std::fs;

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

/// `VmRSS` in kB.
fn resident_of(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes =
        line.and_then(|rest| rest.split_whitespace().next()).and_then(|number| number.parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
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
}
