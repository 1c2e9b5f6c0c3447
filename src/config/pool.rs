//! The `[pool]` table: when warm agents are given back. Looks at the machine for one default and at nothing else.

use serde::{Deserialize, Serialize};
use std::fs;

/// How much of the machine's memory agents get when nobody says: the rest is for Postgres, git, this service, the pages of the
/// worktrees and whoever else works here. What agents start (compilers, test runs) is within it.
const MEMORY_PERCENT: u64 = 60;
/// For a machine that does not say how much it has.
const MEMORY_MB_FALLBACK: u64 = 4096;

/// When warm agents are given back.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct PoolConfig {
    /// Seconds without a turn after which an agent session is released.
    pub idle_ttl_secs: u64,
    /// Warm agent sessions at most; beyond, the one that was used longest ago is released.
    pub live_max: usize,
    /// MiB that all agent processes may hold together, with everything that they started; beyond, spare processes are given
    /// back, and then what was used longest ago. 0 stands for the default: 60 % of the memory that this machine, or the
    /// container that we run in, has.
    pub memory_mb: u64,
}

impl Default for PoolConfig {
    fn default() -> Self {
        Self { idle_ttl_secs: 1800, live_max: 64, memory_mb: memory_mb_default() }
    }
}

impl PoolConfig {
    /// With the default in place of a 0.
    pub(super) fn resolved(self) -> Self {
        let memory_mb = if self.memory_mb == 0 { memory_mb_default() } else { self.memory_mb };
        Self { memory_mb, ..self }
    }
}

fn memory_mb_default() -> u64 {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let own = read("/proc/self/cgroup").lines().find_map(|line| line.strip_prefix("0::").map(str::to_owned));
    let own = own.unwrap_or_default();
    let limits = [
        // Version 2 as the machine sees us and as a container sees itself; version 1 in a container.
        format!("/sys/fs/cgroup{own}/memory.max"),
        "/sys/fs/cgroup/memory.max".to_owned(),
        "/sys/fs/cgroup/memory/memory.limit_in_bytes".to_owned(),
    ];
    let limits = limits.iter().map(|path| read(path));
    share_of(&read("/proc/meminfo"), limits)
}

/// The share of what there is, in MiB. A limit that is no number, or more than there is, is none.
fn share_of(meminfo: &str, limits: impl Iterator<Item = String>) -> u64 {
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let total = total.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    let total = total.map(|kilobytes| kilobytes.saturating_mul(1024));
    let limits = limits.filter_map(|limit| limit.trim().parse().ok()).filter(|limit| *limit > 0);
    match total.into_iter().chain(limits).min() {
        Some(bytes) => ((bytes >> 20) * MEMORY_PERCENT / 100).max(1),
        None => MEMORY_MB_FALLBACK,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agents_get_their_share_of_the_machine_or_of_the_container() {
        let share = |meminfo: &str, limits: &[&str]| {
            share_of(meminfo, limits.iter().map(|limit| (*limit).to_owned()))
        };
        let ten_gib = "MemTotal:       10485760 kB\nMemFree: 1 kB\n";
        assert_eq!(share(ten_gib, &["", "max\n", "9223372036854771712\n"]), 6144);
        assert_eq!(share(ten_gib, &["1073741824\n"]), 614);
        assert_eq!(share("", &[]), MEMORY_MB_FALLBACK);
        assert!(memory_mb_default() > 0);
        let asked = PoolConfig { memory_mb: 7, ..PoolConfig::default() };
        assert_eq!(asked.resolved().memory_mb, 7);
        assert!(PoolConfig { memory_mb: 0, ..PoolConfig::default() }.resolved().memory_mb > 7);
    }
}
