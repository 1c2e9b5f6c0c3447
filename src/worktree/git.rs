//! One hardened git command. Never a shell, never an inherited `GIT_*` variable, never a prompt, never without a deadline.

use super::error::WorktreeError;
use super::lock::Lock;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};

/// For work on the local disk.
const LOCAL: Duration = Duration::from_secs(120);
/// For what may copy a whole history or cross a network.
pub(super) const LONG_DEADLINE: Duration = Duration::from_secs(600);
/// Output that is gathered at most, in bytes; a listing of a million long paths stays below.
const OUTPUT_BYTES_MAX: usize = 256 << 20;
/// Standard error that is kept for the message, in bytes.
const DETAIL_BYTES_MAX: usize = 2_000;

/// The only configuration besides that of our own stores. No filter, diff or merge driver is defined here, so what an
/// in-tree `.gitattributes` names does nothing; end-of-line rules still hold, as they would in the user's own commit.
/// Objects, refs and our index are synced, objects in batches: an accepted checkpoint survives a power cut.
pub(super) const CONFIG: &str = "\
[safe]\n\tdirectory = *\n\
[core]\n\thooksPath = /dev/null\n\tfsmonitor = false\n\texcludesFile = /dev/null\n\tattributesFile = /dev/null\n\
\tquotePath = false\n\tbigFileThreshold = 32m\n\tfsync = added\n\tfsyncMethod = batch\n\
[protocol \"ext\"]\n\tallow = never\n\
[gc]\n\tauto = 0\n[maintenance]\n\tauto = false\n\
[user]\n\tname = agentpool\n\temail = agentpool@localhost\n\
[commit]\n\tgpgSign = false\n\
[init]\n\tdefaultBranch = main\n\tdefaultRefFormat = files\n\ttemplateDir =\n\
[diff]\n\tignoreSubmodules = all\n[submodule]\n\trecurse = false\n\
[http]\n\tlowSpeedLimit = 1000\n\tlowSpeedTime = 30\n";

/// What of our environment a git that may go over a network is given, besides PATH.
const NETWORK_VARS: [&str; 12] = [
    "HOME",
    "USER",
    "SSH_AUTH_SOCK",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "http_proxy",
    "https_proxy",
    "HTTPS_PROXY",
    "all_proxy",
    "ALL_PROXY",
    "no_proxy",
    "NO_PROXY",
];

/// What every git of a node has in common.
#[derive(Clone, Debug)]
pub(super) struct Setup {
    /// The configuration that it reads.
    pub config: PathBuf,
    /// For what may copy a whole history or cross a network.
    pub long_deadline: Duration,
}

/// A git command that is being put together.
pub(super) struct Git {
    command: Command,
    what: &'static str,
    deadline: Duration,
    long_deadline: Duration,
}

/// What a git that ran to its end left.
pub(super) struct Output {
    /// Exit code; −1 after a signal.
    pub code: i32,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// The end of standard error, for messages.
    pub detail: String,
}

impl Output {
    /// Standard output as one trimmed text.
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim_end().to_owned()
    }
}

impl Git {
    /// A git that is to `what` ("save the tree").
    pub(super) fn new(setup: &Setup, what: &'static str) -> Self {
        let mut command = Command::new("git");
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into()))
            .env("LC_ALL", "C")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_ATTR_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", &setup.config)
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_ASKPASS", "false")
            .env("SSH_ASKPASS", "false")
            .env("GIT_ADVICE", "0")
            .env("GIT_NO_LAZY_FETCH", "1")
            .env("GIT_NO_REPLACE_OBJECTS", "1")
            .env("GIT_ALLOW_PROTOCOL", "file:git:http:https:ssh")
            .env("GIT_SSH_COMMAND", "ssh -oBatchMode=yes -oConnectTimeout=20")
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        Self { command, what, deadline: LOCAL, long_deadline: setup.long_deadline }
    }

    /// Which repository.
    pub(super) fn dir(mut self, git_dir: &Path) -> Self {
        self.command.env("GIT_DIR", git_dir);
        self
    }

    /// Which files.
    pub(super) fn tree(mut self, work_tree: &Path) -> Self {
        self.command.env("GIT_WORK_TREE", work_tree).current_dir(work_tree);
        self
    }

    /// Which index, when not the git directory's own.
    pub(super) fn index(mut self, index: &Path) -> Self {
        self.command.env("GIT_INDEX_FILE", index);
        self
    }

    /// Also sees these objects.
    pub(super) fn borrowing(mut self, objects: &Path) -> Self {
        self.command.env("GIT_ALTERNATE_OBJECT_DIRECTORIES", objects);
        self
    }

    /// Finds the repository from here.
    pub(super) fn from(mut self, folder: &Path) -> Self {
        self.command.current_dir(folder);
        self
    }

    /// Arguments.
    pub(super) fn args<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(mut self, args: I) -> Self {
        self.command.args(args);
        self
    }

    /// Takes every path argument as it is written, not as a pattern.
    pub(super) fn literal_paths(mut self) -> Self {
        self.command.env("GIT_LITERAL_PATHSPECS", "1");
        self
    }

    /// Holds a lock until the child is gone, even when we are gone before it.
    pub(super) fn holding(mut self, lock: &Lock) -> Self {
        self.command.stdin(lock.as_stdin());
        self
    }

    /// Reads a file.
    pub(super) fn stdin(mut self, file: File) -> Self {
        self.command.stdin(file);
        self
    }

    /// May copy a history or cross a network.
    pub(super) fn long(mut self) -> Self {
        self.deadline = self.long_deadline;
        for name in NETWORK_VARS {
            if let Some(value) = std::env::var_os(name) {
                self.command.env(name, value);
            }
        }
        self
    }

    /// Runs as the owner of the repository that it writes. The global configuration is closed to that account, so what
    /// matters of it must be in the arguments.
    pub(super) fn run_as(mut self, uid: u32, gid: u32) -> Self {
        self.command.env("GIT_CONFIG_GLOBAL", "/dev/null").uid(uid).gid(gid);
        self
    }

    /// Runs and gathers.
    ///
    /// # Errors
    /// [`WorktreeError::Git`] on any exit but 0.
    ///
    /// # Cancel safety
    /// Dropping kills git's whole process group.
    pub(super) async fn run(self) -> Result<Output, WorktreeError> {
        let what = self.what;
        let out = self.outcome().await?;
        if out.code == 0 { Ok(out) } else { Err(WorktreeError::Git { what, detail: out.detail }) }
    }

    /// Runs and gathers; every exit code is an answer.
    pub(super) async fn outcome(self) -> Result<Output, WorktreeError> {
        let mut stdout = Vec::new();
        let what = self.what;
        let (code, detail) = self
            .drive(&mut |bytes| {
                stdout.extend_from_slice(bytes);
                stdout.len() <= OUTPUT_BYTES_MAX
            })
            .await?;
        if stdout.len() > OUTPUT_BYTES_MAX {
            return Err(WorktreeError::Git { what, detail: "its answer is too long".into() });
        }
        Ok(Output { code, stdout, detail })
    }

    /// Runs and hands standard output over as it comes, until `sink` says no.
    ///
    /// # Errors
    /// [`WorktreeError::Git`] on any exit but 0.
    pub(super) async fn stream(self, sink: &mut (dyn FnMut(&[u8]) + Send)) -> Result<(), WorktreeError> {
        let what = self.what;
        let (code, detail) = self
            .drive(&mut |bytes| {
                sink(bytes);
                true
            })
            .await?;
        if code == 0 { Ok(()) } else { Err(WorktreeError::Git { what, detail }) }
    }

    async fn drive(
        mut self,
        sink: &mut (dyn FnMut(&[u8]) -> bool + Send),
    ) -> Result<(i32, String), WorktreeError> {
        let failed = |source| WorktreeError::Io { path: "git".into(), source };
        let mut group = Group(self.command.spawn().map_err(failed)?);
        let out = group.0.stdout.take().expect("standard output is piped");
        let err = group.0.stderr.take().expect("standard error is piped");
        let work = async {
            let ((), detail) = tokio::try_join!(drain(out, sink), tail(err))?;
            let status = group.0.wait().await?;
            Ok((status.code().unwrap_or(-1), detail))
        };
        match tokio::time::timeout(self.deadline, work).await {
            Ok(ended) => ended.map_err(failed),
            Err(_) => Err(WorktreeError::Timeout { what: self.what, secs: self.deadline.as_secs() }),
        }
    }
}

/// A child and its descendants, killed together when given up: `fetch` has helpers that outlive it.
struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        // The id is there only while the child is not reaped, so it cannot be somebody else's by now.
        if let Some(pid) = self.0.id().and_then(|id| i32::try_from(id).ok()) {
            let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

async fn drain(
    mut from: impl AsyncRead + Unpin,
    sink: &mut (dyn FnMut(&[u8]) -> bool + Send),
) -> std::io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        match from.read(&mut buffer).await? {
            0 => return Ok(()),
            n if sink(&buffer[..n]) => {}
            // The pipe closes here; git ends by SIGPIPE.
            _ => return Ok(()),
        }
    }
}

async fn tail(mut from: impl AsyncRead + Unpin) -> std::io::Result<String> {
    let mut kept = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let n = from.read(&mut buffer).await?;
        if n == 0 {
            break;
        }
        kept.extend_from_slice(&buffer[..n]);
        if kept.len() > 2 * DETAIL_BYTES_MAX {
            kept.drain(..kept.len() - DETAIL_BYTES_MAX);
        }
    }
    let start = kept.len().saturating_sub(DETAIL_BYTES_MAX);
    Ok(crate::domain::text::clean_bytes(&kept[start..]).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    /// The shell below writes its id and then its child's, and both would sleep on.
    async fn ids(file: &Path) -> Vec<Pid> {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let text = std::fs::read_to_string(file).unwrap_or_default();
            let ids: Vec<Pid> = text.lines().filter_map(|id| Some(Pid::from_raw(id.parse().ok()?))).collect();
            if ids.len() == 2 {
                return ids;
            }
            assert!(Instant::now() < deadline, "the shell never ran");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    async fn all_gone(ids: &[Pid]) {
        let deadline = Instant::now() + Duration::from_secs(20);
        let lives = |id: &Pid| {
            let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
            !matches!(stat.rsplit_once(") ").map(|(_, rest)| &rest[..1]), None | Some("Z" | "X"))
        };
        while ids.iter().any(lives) {
            assert!(Instant::now() < deadline, "still there: {ids:?}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    fn hanging(file: &Path) -> Git {
        let script = format!("!sleep 600 & printf '%s\\n' $$ $! > {}; wait; :", file.display());
        let setup = Setup { config: "/dev/null".into(), long_deadline: LONG_DEADLINE };
        Git::new(&setup, "hang").args(["-c", &format!("alias.hang={script}"), "hang"])
    }

    #[tokio::test]
    async fn f88_a_git_that_hangs_ends_at_its_deadline_with_its_helpers() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("ids");
        let mut git = hanging(&file);
        git.deadline = Duration::from_secs(2);
        let ended = git.run().await.map(drop);
        assert!(matches!(ended, Err(WorktreeError::Timeout { what: "hang", secs: 2 })), "{ended:?}");
        all_gone(&ids(&file).await).await;
    }

    #[tokio::test]
    async fn a_git_that_is_given_up_ends_with_its_helpers() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("ids");
        let running = tokio::spawn(hanging(&file).run());
        let ids = ids(&file).await;
        running.abort();
        all_gone(&ids).await;
    }
}
