//! Limits on a child with everything that it starts, by a control group (version 2) of its own below ours, where that is
//! delegated to us. Reads and writes the files of cgroupfs; moves nobody but us, our shims and their children.

use super::proc_table::ProcTable;
use nix::errno::Errno;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// What a child may use with everything that it starts. Nothing is limited by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Memory in bytes. Whoever of the tree asks for more is ended by the system, the largest first.
    pub memory_bytes: Option<u64>,
    /// Processes and threads at once. A further one cannot be started.
    pub pids_max: Option<u32>,
    /// Time of processors, in percent of one: 200 are two.
    pub cpu_percent: Option<u32>,
}

/// The controllers that hold limits, and the configuration's words for these.
const CONTROLLERS: [(&str, &str); 3] =
    [("memory", "limits.memory_mb"), ("pids", "limits.pids_max"), ("cpu", "limits.cpu_percent")];
/// Every folder that we make begins so.
const PREFIX: &str = "agentpool-";
/// How often processes are moved that were started while others were.
const MOVES_MAX: usize = 8;
/// In the unit of `cpu.max`: a tenth of a second.
const CPU_PERIOD_MICROS: u64 = 100_000;

impl Limits {
    /// True when nothing is limited.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// (controller, file, value).
    fn settings(&self) -> Vec<(&'static str, &'static str, String)> {
        let cpu =
            |percent: u32| format!("{} {CPU_PERIOD_MICROS}", u64::from(percent) * CPU_PERIOD_MICROS / 100);
        [
            self.memory_bytes.map(|bytes| ("memory", "memory.max", bytes.to_string())),
            self.pids_max.map(|count| ("pids", "pids.max", count.to_string())),
            self.cpu_percent.map(|percent| ("cpu", "cpu.max", cpu(percent))),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

/// Our own control group, below which children get theirs.
#[derive(Debug)]
pub(super) struct Groups {
    base: PathBuf,
    /// Where we and our shims are.
    back: PathBuf,
    held: Vec<&'static str>,
    made: AtomicU32,
}

/// The control group of one child. Whoever outlives the other takes it away: its shim or we.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Group {
    pub(super) folder: PathBuf,
    /// Where its shim is: outside, or it would be limited and killed with the others.
    pub(super) back: PathBuf,
}

impl Groups {
    /// # Errors
    /// Why children cannot have any, in words.
    pub(super) fn ours() -> Result<Self, String> {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let base = folder_of(&read("/proc/self/cgroup"), &read("/proc/self/mountinfo"))
            .ok_or("no control groups of version 2 are mounted here")?;
        Self::at(&base).map_err(|error| {
            format!("the control group {} is not delegated to this service: {error}", base.display())
        })
    }

    fn at(base: &Path) -> io::Result<Self> {
        for left in fs::read_dir(base)?.flatten() {
            if left.file_name().to_string_lossy().starts_with(PREFIX) {
                // One that is in use cannot be removed.
                let _ = fs::remove_dir(left.path());
            }
        }
        let offered = fs::read_to_string(base.join("cgroup.controllers"))?;
        let mut groups =
            Self { base: base.to_owned(), back: base.to_owned(), held: Vec::new(), made: AtomicU32::new(0) };
        let probe = groups.next_folder();
        fs::create_dir(&probe)?;
        fs::remove_dir(&probe)?;
        for (controller, _) in CONTROLLERS {
            if offered.split_whitespace().any(|word| word == controller) && groups.enable(controller)? {
                groups.held.push(controller);
            }
        }
        Ok(groups)
    }

    /// A group with processes of its own cannot limit groups below it, but for the system's first one: then we step down.
    fn enable(&mut self, controller: &str) -> io::Result<bool> {
        let control = self.base.join("cgroup.subtree_control");
        for _ in 0..MOVES_MAX {
            match fs::write(&control, format!("+{controller}")) {
                Ok(()) => return Ok(true),
                Err(error) if error.raw_os_error() == Some(Errno::EBUSY as i32) => self.step_down()?,
                Err(error) => return Err(error),
            }
        }
        // Others are in it whom we do not move.
        Ok(false)
    }

    fn step_down(&mut self) -> io::Result<()> {
        let me = std::process::id();
        self.back = self.base.join(format!("{PREFIX}{me}"));
        fs::create_dir_all(&self.back)?;
        let below: Vec<u32> = ProcTable::read().descendants(me);
        let members = fs::read_to_string(self.base.join("cgroup.procs"))?;
        for pid in members.lines().filter_map(|line| line.parse().ok()) {
            if pid == me || below.contains(&pid) {
                // It may have ended meanwhile.
                let _ = fs::write(self.back.join("cgroup.procs"), pid.to_string());
            }
        }
        Ok(())
    }

    /// A group for a child, and the configuration's words for the limits that cannot be held.
    ///
    /// # Errors
    /// When it cannot be made; nothing is left of it.
    pub(super) fn make(&self, limits: &Limits) -> io::Result<(Group, Vec<&'static str>)> {
        let group = Group { folder: self.next_folder(), back: self.back.clone() };
        fs::create_dir(&group.folder)?;
        let mut unheld = Vec::new();
        for (controller, file, value) in limits.settings() {
            if !self.held.contains(&controller) {
                unheld
                    .extend(CONTROLLERS.iter().filter(|(name, _)| *name == controller).map(|(_, key)| *key));
            } else if let Err(error) = fs::write(group.folder.join(file), value) {
                group.remove();
                return Err(error);
            }
        }
        Ok((group, unheld))
    }

    fn next_folder(&self) -> PathBuf {
        let n = self.made.fetch_add(1, Ordering::Relaxed);
        self.base.join(format!("{PREFIX}{}-{n}", std::process::id()))
    }
}

impl Group {
    /// Whoever calls this is in the group from here on, with all that it will start.
    pub(super) fn join(&self) -> io::Result<()> {
        fs::write(self.folder.join("cgroup.procs"), "0")
    }

    /// The caller alone leaves.
    pub(super) fn leave(&self) -> io::Result<()> {
        fs::write(self.back.join("cgroup.procs"), "0")
    }

    /// Ends everybody in it.
    pub(super) fn kill(&self) {
        // Systems before 5.14 have no such file; then the walk over the tree has to do.
        let _ = fs::write(self.folder.join("cgroup.kill"), "1");
    }

    /// The system ended one of it because it was at its limit of memory.
    pub(super) fn was_over_memory(&self) -> bool {
        let events = fs::read_to_string(self.folder.join("memory.events")).unwrap_or_default();
        events.lines().any(|line| line.strip_prefix("oom_kill ").is_some_and(|count| count.trim() != "0"))
    }

    /// Takes it away if it is empty.
    pub(super) fn remove(&self) {
        let _ = fs::remove_dir(&self.folder);
    }
}

/// The folder of the group that `cgroup` (of `/proc/self`) names in version 2, by the mounts of `mountinfo`.
fn folder_of(cgroup: &str, mountinfo: &str) -> Option<PathBuf> {
    let own = cgroup.lines().find_map(|line| line.strip_prefix("0::"))?;
    mountinfo.lines().find_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        kind.starts_with("cgroup2 ").then_some(())?;
        let mut fields = mount.split_whitespace().skip(3);
        let (root, place) = (fields.next()?, fields.next()?);
        let below = Path::new(own).strip_prefix(root).ok()?;
        Some(Path::new(place).join(below))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_group_is_found_wherever_it_is_mounted() {
        let found = |own: &str, mount: &str| {
            let mountinfo = format!(
                "10 31 0:28 / / rw - ext4 /dev/vda rw\n41 31 0:38 {mount} rw,relatime - cgroup2 cgroup2 rw\n"
            );
            folder_of(&format!("4:memory:/x\n0::{own}\n"), &mountinfo)
        };
        assert_eq!(found("/", "/ /sys/fs/cgroup/unified"), Some("/sys/fs/cgroup/unified".into()));
        assert_eq!(
            found("/a.slice/b.service", "/ /sys/fs/cgroup"),
            Some("/sys/fs/cgroup/a.slice/b.service".into())
        );
        assert_eq!(found("/docker/c1/x", "/docker/c1 /sys/fs/cgroup"), Some("/sys/fs/cgroup/x".into()));
        assert_eq!(found("/elsewhere", "/docker/c1 /sys/fs/cgroup"), None);
        assert_eq!(folder_of("4:memory:/x\n", "41 31 0:38 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw"), None);
    }

    #[test]
    fn a_group_is_given_what_can_be_held_and_the_rest_is_named() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("cgroup.controllers"), "cpuset cpu memory\n").unwrap();
        fs::create_dir(folder.path().join("agentpool-1-0")).unwrap();
        let groups = Groups::at(folder.path()).unwrap();
        assert!(!folder.path().join("agentpool-1-0").exists(), "an earlier start left it");
        let limits = Limits { memory_bytes: Some(1 << 20), pids_max: Some(9), cpu_percent: Some(150) };
        let (group, unheld) = groups.make(&limits).unwrap();
        assert_eq!(unheld, ["limits.pids_max"]);
        let read = |file: &str| fs::read_to_string(group.folder.join(file)).unwrap();
        assert_eq!((read("memory.max").as_str(), read("cpu.max").as_str()), ("1048576", "150000 100000"));
        assert!(!group.was_over_memory());
        fs::write(group.folder.join("memory.events"), "max 7\noom 1\noom_kill 1\n").unwrap();
        assert!(group.was_over_memory());
        fs::write(group.folder.join("memory.events"), "oom_kill 0\n").unwrap();
        assert!(!group.was_over_memory());
        let (other, _) = groups.make(&Limits::default()).unwrap();
        assert_ne!(other.folder, group.folder);
        other.remove();
        assert!(!other.folder.exists());
    }

    #[test]
    fn what_is_no_control_group_is_none_of_ours() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Groups::at(folder.path()).is_err());
    }
}
