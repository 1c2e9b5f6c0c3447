//! Where things are. Every path below the root is made of ids and hashes, never of what somebody typed.

use super::error::WorktreeError;
use super::files;
use super::git::{CONFIG, Git, Setup};
use super::lock::Lock;
use super::record::Record;
use crate::domain::ids::SessionId;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The folders of a node.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    root: PathBuf,
    long_deadline: Duration,
}

/// The two stores of a project.
#[derive(Clone, Debug)]
pub(super) struct Stores {
    /// Their folder.
    pub dir: PathBuf,
    /// The only holder of bases and checkpoints.
    pub ours: PathBuf,
    /// What the agents' worktrees hang off.
    pub hub: PathBuf,
    /// Held to add to them.
    pub lock: PathBuf,
}

/// All places of one session, and the git that works there.
#[derive(Clone, Debug)]
pub(super) struct Site {
    /// Whose.
    pub session: SessionId,
    /// The worktree.
    pub tree: PathBuf,
    /// Our git directory for it.
    pub private: PathBuf,
    /// The project's stores.
    pub stores: Stores,
    /// What our git has in common.
    pub setup: Setup,
}

impl Layout {
    /// Makes the folders, closed to other accounts where they are ours alone, and writes the configuration.
    pub(super) fn prepare(root: &Path, long_deadline: Duration) -> Result<Self, WorktreeError> {
        files::make_dir(root)?;
        let root = fs::canonicalize(root).map_err(WorktreeError::io(root))?;
        let layout = Self { root, long_deadline };
        let git = layout.root.join("git");
        for dir in ["projects", "sessions"] {
            files::make_dir(&git.join(dir))?;
        }
        files::make_dir(&layout.root.join("worktrees"))?;
        fs::set_permissions(&git, fs::Permissions::from_mode(0o700)).map_err(WorktreeError::io(&git))?;
        if files::read(&layout.config(), 1 << 20).as_deref() != Some(CONFIG.as_bytes()) {
            files::write(&layout.config(), CONFIG.as_bytes())?;
        }
        Ok(layout)
    }

    fn config(&self) -> PathBuf {
        self.root.join("git/config")
    }

    /// What our git has in common.
    pub(super) fn setup(&self) -> Setup {
        Setup { config: self.config(), long_deadline: self.long_deadline }
    }

    /// The stores of the project with that key.
    pub(super) fn stores(&self, key: &str) -> Stores {
        let dir = self.root.join("git/projects").join(key);
        Stores { ours: dir.join("ours.git"), hub: dir.join("hub.git"), lock: dir.join("lock"), dir }
    }

    /// Our folder for a session.
    pub(super) fn private(&self, session: SessionId) -> PathBuf {
        self.root.join("git/sessions").join(session.to_string())
    }

    /// The places of a session in the project with that key.
    pub(super) fn site(&self, session: SessionId, key: &str) -> Site {
        Site {
            session,
            tree: self.root.join("worktrees").join(session.to_string()),
            private: self.private(session),
            stores: self.stores(key),
            setup: self.setup(),
        }
    }

    /// The places of a session that has been ensured before.
    ///
    /// # Errors
    /// [`WorktreeError::Unknown`] when it never was.
    pub(super) fn known_site(&self, session: SessionId) -> Result<Site, WorktreeError> {
        let record = Record::load(&self.private(session));
        record
            .map(|record| self.site(session, &record.project))
            .ok_or_else(|| WorktreeError::Unknown(session.to_string()))
    }
}

impl Site {
    /// A git with the session's own HEAD and index; its objects and refs are those of ours.
    pub(super) fn git(&self, what: &'static str) -> Git {
        Git::new(&self.setup, what).dir(&self.private)
    }

    /// The same, on the session's files.
    pub(super) fn git_on_tree(&self, what: &'static str) -> Git {
        self.git(what).tree(&self.tree)
    }

    /// The agents' administrative folder of the worktree, in the hub.
    pub(super) fn admin(&self) -> PathBuf {
        self.stores.hub.join("worktrees").join(self.session.to_string())
    }

    /// `refs/agentpool/<session>/<name>`.
    pub(super) fn reference(&self, name: &str) -> String {
        format!("refs/agentpool/{}/{name}", self.session)
    }

    /// The branch that the worktree is made with. The last twelve digits of the id are random; its first are the time,
    /// which sessions made together share.
    pub(super) fn branch(&self) -> String {
        let id = self.session.0.simple().to_string();
        format!("agentpool/{}", &id[20..])
    }

    /// Takes the session's lock. Whoever holds it is alone with its git directory and refs, so lock files that are there
    /// belong to a git that was killed, and go.
    pub(super) async fn lock(&self) -> Result<Lock, WorktreeError> {
        files::make_dir(&self.private)?;
        let lock = Lock::take(&self.private.join("lock")).await?;
        let refs = self.stores.ours.join(self.reference("base"));
        for dir in [Some(self.private.as_path()), refs.parent()].into_iter().flatten() {
            for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
                if entry.path().extension().is_some_and(|ext| ext == "lock" || ext == "new") {
                    files::remove(&entry.path())?;
                }
            }
        }
        Ok(lock)
    }
}

impl Stores {
    /// The project's key.
    pub(super) fn key(&self) -> &str {
        self.dir.file_name().and_then(|name| name.to_str()).expect("the key is hexadecimal")
    }
}
