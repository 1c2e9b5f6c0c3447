//! What the API sees of this node's worktrees when people review them: git below, rows beside it. Whoever takes files back holds the
//! worktree, so that no turn works in it meanwhile.

use super::local_node::{failed, source_of};
use crate::domain::change::{BY_USER, ChangeStatus, Chosen, FileChange};
use crate::domain::ids::{NodeId, SessionId};
use crate::domain::session::SessionStatus;
use crate::domain::story::stories;
use crate::http::{LocalError, LocalReview, NewBranch, Since, States};
use crate::store::Store;
use crate::store::changes::StoredStep;
use crate::store::checkpoints::{CheckpointRow, FoundState, PersonStep};
use crate::store::sessions::SessionDetail;
use crate::store::turns::ChangeRow;
use crate::wire::api::AppliedView;
use crate::worktree::{Apply, Hold, Worktree, WorktreeError, Worktrees};
use async_trait::async_trait;
use std::collections::HashSet;
use std::fs::File;
use tokio::sync::Semaphore;
use uuid::Uuid;

/// Comparisons of two states at once: each may be of a whole repository.
const COMPARISONS_MAX: usize = 4;

pub(super) struct Review {
    id: NodeId,
    worktrees: Worktrees,
    store: Store,
    comparisons: Semaphore,
}

#[async_trait]
impl LocalReview for Review {
    async fn files(&self, session: &SessionDetail, since: Since) -> Result<Vec<FileChange>, LocalError> {
        match self.states(session, since).await? {
            Some((from, to)) => {
                let id = SessionId(session.row.id);
                let _turn = self.comparisons.acquire().await;
                self.worktrees.changed(id, &from, &to).await.map_err(refused)
            }
            None => Ok(Vec::new()),
        }
    }

    async fn patch(
        &self,
        session: &SessionDetail,
        states: States,
        chosen: Chosen,
    ) -> Result<File, LocalError> {
        let states = match states {
            States::Task(before, after) => Some((before, after)),
            States::Session(since) => self.states(session, since).await?,
        };
        let Some((from, to)) = states else {
            return Err(LocalError::Conflict("nothing has run in this session yet".to_owned()));
        };
        let _turn = self.comparisons.acquire().await;
        self.worktrees.patch(SessionId(session.row.id), &from, &to, &chosen).await.map_err(refused)
    }

    async fn apply(&self, session: &SessionDetail, branch: NewBranch) -> Result<AppliedView, LocalError> {
        let id = SessionId(session.row.id);
        // Read before the checkpoint is: a turn that ends in between leaves its changes pending, never applied unseen.
        let steps = self.store.change_steps(id.0).await?;
        let Some((from_base, to)) =
            self.store.session(id.0).await?.and_then(|now| now.base_commit.zip(now.last_checkpoint))
        else {
            let words = "nothing has run in this session yet: there is nothing to apply";
            return Err(LocalError::Conflict(words.to_owned()));
        };
        let NewBranch { name, message, chosen } = branch;
        let wish = Apply { from_base, to, branch: name, message, chosen };
        let applied = self.worktrees.apply(&source_of(session), id, &wish).await.map_err(refused)?;
        let ids = waiting(&steps, &wish.chosen, &applied.files);
        let changes = self.store.mark_applied(&ids).await?;
        Ok(AppliedView { branch: applied.branch, commit: applied.commit, onto: applied.onto, changes })
    }

    async fn reject(
        &self,
        session: &SessionDetail,
        chosen: Chosen,
    ) -> Result<(Vec<String>, u64), LocalError> {
        let id = session.row.id;
        let (_hold, worktree) = self.take_over(session).await?;
        let rejected = self.worktrees.reject(&worktree, &chosen).await.map_err(refused)?;
        let steps = self.store.change_steps(id).await?;
        let ids = waiting(&steps, &chosen, &rejected.files);
        let step = PersonStep::Rejected(&ids);
        let changes = self.store.save_step(id, self.id.0, &rejected.commit, step).await?;
        Ok((rejected.files.into_iter().map(|file| file.path).collect(), changes))
    }

    async fn restore(&self, session: &SessionDetail, to: &CheckpointRow) -> Result<(), LocalError> {
        let (_hold, worktree) = self.take_over(session).await?;
        self.worktrees.restore(&worktree, &to.commit).await.map_err(refused)?;
        let step = PersonStep::Restored(to.id);
        self.store.save_step(session.row.id, self.id.0, &to.commit, step).await?;
        Ok(())
    }
}

impl Review {
    pub(super) fn new(id: NodeId, worktrees: Worktrees, store: Store) -> Self {
        Self { id, worktrees, store, comparisons: Semaphore::new(COMPARISONS_MAX) }
    }

    /// The two states that a session's changes lie between; none before its first turn.
    async fn states(
        &self,
        session: &SessionDetail,
        since: Since,
    ) -> Result<Option<(String, String)>, LocalError> {
        let (Some(base), Some(to)) = (&session.base_commit, &session.last_checkpoint) else {
            return Ok(None);
        };
        let from = match since {
            Since::Base => base.clone(),
            Since::Applied => self.worktrees.accepted(SessionId(session.row.id)).await.map_err(refused)?,
        };
        Ok(Some((from, to.clone())))
    }

    /// The worktree with nobody at work in it, and what is in it saved, with its rows.
    async fn take_over(&self, session: &SessionDetail) -> Result<(Hold, Worktree), LocalError> {
        let id = SessionId(session.row.id);
        let Some(hold) = self.worktrees.try_hold(id) else {
            let words = "a turn is at work in the session's worktree: cancel it, or wait for its end";
            return Err(LocalError::Conflict(words.to_owned()));
        };
        if let Some(task) = self.store.begun_task(id.0).await? {
            return Err(LocalError::Conflict(format!(
                "task {task} has begun, and its next try starts from its own checkpoint: cancel it, or wait for its end"
            )));
        }
        // Looked at again: it may have been closed until now, and its worktree taken away.
        let refuse = |words: &str| Err(LocalError::Conflict(words.to_owned()));
        let Some(session) = self.store.session(id.0).await? else { return refuse("the session is gone") };
        if session.row.status != SessionStatus::Open.as_str() {
            return refuse("the session is closed: its worktree is not worked in any more");
        }
        if session.row.worktree.is_none() {
            return refuse("nothing has run in this session yet: there is nothing to take back");
        }
        let worktree = self.worktrees.ensure(&source_of(&session), id).await.map_err(refused)?;
        let found = self.found(id.0, &worktree).await?;
        if let Some(found) = found {
            self.store.save_found(id.0, self.id.0, &found).await?;
        }
        Ok((hold, worktree))
    }

    /// The present state, when it is not the one that was saved last.
    async fn found(&self, session: Uuid, worktree: &Worktree) -> Result<Option<FoundState>, LocalError> {
        let commit = self.worktrees.checkpoint(worktree, "found").await.map_err(refused)?.commit;
        let newest = self.store.newest_state(session, self.id.0).await?;
        let from = newest.as_ref().map_or(&worktree.base_commit, |newest| &newest.commit);
        if *from == commit {
            return Ok(None);
        }
        let changes = self.worktrees.changes(worktree, from, &commit).await.map_err(refused)?;
        let (task, by) = match newest.and_then(|newest| newest.unfinished) {
            Some((task, agent)) => (Some(task), agent),
            None => (None, BY_USER.to_owned()),
        };
        let changes = changes.iter().map(ChangeRow::from).collect();
        Ok(Some(FoundState { commit, task, by, changes }))
    }
}

/// The changes that wait for review and made these files what they are.
fn waiting(rows: &[StoredStep], chosen: &Chosen, files: &[FileChange]) -> Vec<Uuid> {
    let pending = || rows.iter().filter(|row| row.status == ChangeStatus::Pending.as_str());
    if *chosen == Chosen::All {
        return pending().map(|row| row.id).collect();
    }
    let steps: Vec<_> = rows.iter().map(StoredStep::step).collect();
    let stories = stories(&steps);
    let names = files.iter().flat_map(|file| [Some(file.path.as_str()), file.old_path.as_deref()]);
    let meant: HashSet<Uuid> = names
        .flatten()
        .filter_map(|name| stories.get(name))
        .flatten()
        .filter_map(|at| rows.get(*at))
        .map(|row| row.id)
        .collect();
    pending().map(|row| row.id).filter(|id| meant.contains(id)).collect()
}

fn refused(error: WorktreeError) -> LocalError {
    let words = error.to_string();
    match error {
        WorktreeError::Conflict { paths } | WorktreeError::NoSuchChange { paths } => {
            LocalError::Files { words, paths }
        }
        WorktreeError::NotOurs { .. } => LocalError::Conflict(
            "the checkpoint is not kept any more: the last 20 of a session are, and the base".to_owned(),
        ),
        WorktreeError::BranchUnusable { .. }
        | WorktreeError::NothingToApply
        | WorktreeError::NothingToReject
        | WorktreeError::Unknown(_)
        | WorktreeError::TooLarge { .. }
        | WorktreeError::PatchTooLong
        | WorktreeError::ProjectUnusable(_) => LocalError::Conflict(words),
        error @ (WorktreeError::Git { .. } | WorktreeError::Timeout { .. } | WorktreeError::Io { .. }) => {
            failed(error)
        }
    }
}
