//! Saved states of a worktree, by why they were taken.

/// Why it was taken. The CHECK of `checkpoints.kind` repeats this list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckpointKind {
    /// A turn is about to begin.
    Before,
    /// A turn has ended.
    After,
    /// A turn was cut off; what it left, before it is tried again.
    Interrupted,
    /// The worktree is about to go.
    Final,
    /// A person is about to take files back.
    Kept,
    /// A person has taken everything back to an earlier one.
    Restored,
    /// A person has taken changed files back.
    Rejected,
}

impl CheckpointKind {
    /// Every kind, in the order of the SQL CHECK.
    pub const ALL: [Self; 7] = [
        Self::Before,
        Self::After,
        Self::Interrupted,
        Self::Final,
        Self::Kept,
        Self::Restored,
        Self::Rejected,
    ];

    /// The word in SQL and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Before => "before",
            Self::After => "after",
            Self::Interrupted => "interrupted",
            Self::Final => "final",
            Self::Kept => "kept",
            Self::Restored => "restored",
            Self::Rejected => "rejected",
        }
    }
}
