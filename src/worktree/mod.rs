//! worktree: to come.
