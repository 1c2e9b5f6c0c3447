//! One file changed by one turn, with who did it.

/// What happened to the file. The CHECK of `pending_changes.operation` repeats this list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeOperation {
    /// It is new.
    Create,
    /// Its content or mode changed.
    Modify,
    /// It is gone.
    Delete,
    /// It has another path (and perhaps other content).
    Rename,
}

impl ChangeOperation {
    /// Every operation, in the order of the SQL CHECK.
    pub const ALL: [Self; 4] = [Self::Create, Self::Modify, Self::Delete, Self::Rename];

    /// The word in SQL and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Modify => "modify",
            Self::Delete => "delete",
            Self::Rename => "rename",
        }
    }
}

/// Where a change stands with whoever reviews it. The CHECK of `pending_changes.status` repeats this list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeStatus {
    /// It waits for review.
    Pending,
    /// It is in a branch of the project.
    Applied,
    /// A person took it back.
    Rejected,
    /// The present state does not come from it: a restore left it behind, or its turn was tried again without it.
    Superseded,
}

impl ChangeStatus {
    /// Every status, in the order of the SQL CHECK.
    pub const ALL: [Self; 4] = [Self::Pending, Self::Applied, Self::Rejected, Self::Superseded];

    /// The word in SQL and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Applied => "applied",
            Self::Rejected => "rejected",
            Self::Superseded => "superseded",
        }
    }
}

/// The name under which what a person changed is kept; no agent is called so.
pub const BY_USER: &str = "user";

/// Longest diff that is stored, in bytes; a longer one is left out and the change says so.
pub const DIFF_BYTES_MAX: usize = 1 << 20;

/// One changed file between two checkpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileChange {
    /// Path within the worktree, as UTF-8 (lossy where the raw one is not).
    pub path: String,
    /// The raw path when it is not UTF-8.
    pub path_raw: Option<Vec<u8>>,
    /// The path before a rename.
    pub old_path: Option<String>,
    /// The raw path before a rename when it is not UTF-8.
    pub old_path_raw: Option<Vec<u8>>,
    /// What happened.
    pub operation: ChangeOperation,
    /// Octal file mode before (`100644`); none for a new file.
    pub old_mode: Option<String>,
    /// Octal file mode after; none for a deleted file.
    pub new_mode: Option<String>,
    /// Git calls it binary.
    pub binary: bool,
    /// Blob before.
    pub old_blob: Option<String>,
    /// Blob after.
    pub new_blob: Option<String>,
    /// Unified diff, at most [`DIFF_BYTES_MAX`]; none for binary or larger ones.
    pub diff: Option<String>,
    /// Lines added.
    pub additions: i64,
    /// Lines removed.
    pub deletions: i64,
}

impl FileChange {
    /// Every path that it touches, as bytes: its own, and the one before a rename.
    pub fn raw_paths(&self) -> impl Iterator<Item = &[u8]> {
        let own = self.path_raw.as_deref().unwrap_or(self.path.as_bytes());
        let old = self.old_path_raw.as_deref().or(self.old_path.as_deref().map(str::as_bytes));
        std::iter::once(own).chain(old)
    }
}

/// Which of the changed files are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chosen {
    /// All of them.
    All,
    /// Those with these paths, as [`FileChange::path`] has them; a renamed file by its new one. A path that is not UTF-8 is named
    /// as it is shown, and stands for every file that is shown so.
    Files(Vec<String>),
}
