//! Worktrees on real git: what a kill, a person or a hostile agent does to them, nothing is lost and nothing runs.

#![allow(clippy::unwrap_used, reason = "a test tells by its panic what went wrong")]

mod apply;
mod born;
mod changes;
mod checkpoint;
mod create;
mod hanging;
mod hostile;
mod kill;
mod planted;
mod remove;
mod restore;
mod review;

use crate::support::repos::Repos;
use agentpool::domain::change::{Chosen, FileChange};
use agentpool::domain::ids::SessionId;
use agentpool::worktree::{Apply, ProjectSource, Worktree, Worktrees};
use std::path::{Path, PathBuf};

fn session() -> SessionId {
    SessionId(uuid::Uuid::now_v7())
}

fn source(repos: &Repos) -> ProjectSource {
    ProjectSource::Path(repos.user.clone())
}

async fn ensured(repos: &Repos, id: SessionId) -> (Worktrees, Worktree) {
    let all = Worktrees::new(repos.data.clone());
    let wt = all.ensure(&source(repos), id).await.expect("a worktree");
    (all, wt)
}

/// Everything between base and checkpoint.
fn all_of(from_base: &str, to: &str, branch: &str, message: &str) -> Apply {
    Apply {
        from_base: from_base.into(),
        to: to.into(),
        branch: branch.into(),
        message: message.into(),
        chosen: Chosen::All,
    }
}

fn hub_of(wt: &Worktree) -> PathBuf {
    let text = std::fs::read_to_string(wt.path.join(".git")).expect(".git");
    let admin = PathBuf::from(text.trim().strip_prefix("gitdir: ").expect("a pointer"));
    admin.parent().and_then(Path::parent).expect("the hub").to_owned()
}

fn ours_of(wt: &Worktree) -> PathBuf {
    hub_of(wt).with_file_name("ours.git")
}

fn change<'a>(changes: &'a [FileChange], path: &str) -> &'a FileChange {
    changes.iter().find(|change| change.path == path).unwrap_or_else(|| panic!("no {path} in {changes:#?}"))
}
