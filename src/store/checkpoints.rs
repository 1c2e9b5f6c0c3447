//! Saved states as rows, and what a person does with them: restores one, or takes files back. Whoever writes here holds the
//! worktree. Knows no git.

use super::turns::{ChangeRow, HeldBy, NewCheckpoint, save_changes, save_checkpoint};
use super::{Store, StoreError, sql, when_busy_again};
use crate::domain::checkpoint::CheckpointKind;
use chrono::{DateTime, Utc};
use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};
use uuid::Uuid;

/// A saved state.
#[derive(Clone, Debug)]
pub struct CheckpointRow {
    /// Id.
    pub id: i64,
    /// Session.
    pub session: Uuid,
    /// Task whose turn took it.
    pub task: Option<Uuid>,
    /// Agent of that task.
    pub agent: Option<String>,
    /// Why it was taken.
    pub kind: String,
    /// Its commit.
    pub commit: String,
    /// The node that has it.
    pub node: Uuid,
    /// The checkpoint that it restored.
    pub restores: Option<i64>,
    /// When it was taken.
    pub created_at: DateTime<Utc>,
    /// The present state came from it.
    pub present: bool,
}

/// The state from which a person's step starts, and who did what was found changed in it.
#[derive(Clone, Debug)]
pub struct FoundState {
    /// Its commit.
    pub commit: String,
    /// The task of an agent that was cut off; none for a person.
    pub task: Option<Uuid>,
    /// Agent name, or [`crate::domain::change::BY_USER`].
    pub by: String,
    /// What has changed since the state before it.
    pub changes: Vec<ChangeRow>,
}

/// The newest state of a session.
#[derive(Clone, Debug)]
pub struct NewestState {
    /// Its commit.
    pub commit: String,
    /// The task and agent that have been at work since, and left no later one.
    pub unfinished: Option<(Uuid, String)>,
}

/// What a person's step is.
#[derive(Clone, Copy, Debug)]
pub enum PersonStep<'a> {
    /// Back to that checkpoint: its id.
    Restored(i64),
    /// These changes were taken back.
    Rejected(&'a [Uuid]),
}

impl Store {
    /// Checkpoints of a session, newest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn checkpoints(
        &self,
        session: Uuid,
        before: Option<i64>,
        limit: i64,
    ) -> Result<Vec<CheckpointRow>, StoreError> {
        let client = self.reads().await?;
        let params: [(&(dyn ToSql + Sync), Type); 3] =
            [(&session, Type::UUID), (&before, Type::INT8), (&limit, Type::INT8)];
        Ok(client.query_typed(sql!("checkpoints/list"), &params).await?.iter().map(checkpoint).collect())
    }

    /// One checkpoint of a session.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn checkpoint(&self, session: Uuid, id: i64) -> Result<Option<CheckpointRow>, StoreError> {
        let client = self.reads().await?;
        let params: [(&(dyn ToSql + Sync), Type); 2] = [(&session, Type::UUID), (&id, Type::INT8)];
        Ok(client.query_typed(sql!("checkpoints/get"), &params).await?.first().map(checkpoint))
    }

    /// The newest state of a session on a node; `None` before its first turn.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn newest_state(&self, session: Uuid, node: Uuid) -> Result<Option<NewestState>, StoreError> {
        let client = self.engine().await?;
        let newest = client.prepare_cached(sql!("checkpoints/newest")).await?;
        Ok(client.query_opt(&newest, &[&session, &node]).await?.map(|row| NewestState {
            commit: row.get("commit_id"),
            unfinished: row.get::<_, Option<Uuid>>("task_id").zip(row.get("agent")),
        }))
    }

    /// The commits before and after an ended task, and the node that has them.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn states_of_task(&self, task: Uuid) -> Result<Option<(String, String, Uuid)>, StoreError> {
        let client = self.reads().await?;
        let rows = client.query_typed(sql!("checkpoints/of_task"), &[(&task, Type::UUID)]).await?;
        Ok(rows.first().map(|row| (row.get("before"), row.get("after"), row.get("node_id"))))
    }

    /// A task of the session that has begun and not ended.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn begun_task(&self, session: Uuid) -> Result<Option<Uuid>, StoreError> {
        let client = self.engine().await?;
        let begun = client.prepare_cached(sql!("checkpoints/begun_task")).await?;
        Ok(client.query_opt(&begun, &[&session]).await?.map(|row| row.get(0)))
    }

    /// The state that was found before a person's step, with what had changed in it.
    ///
    /// # Errors
    /// [`StoreError`]; nothing is half-written.
    pub async fn save_found(&self, session: Uuid, node: Uuid, found: &FoundState) -> Result<(), StoreError> {
        when_busy_again(async || {
            let mut client = self.engine().await?;
            let tx = client.transaction().await?;
            let kept = NewCheckpoint { session, node, kind: CheckpointKind::Kept, commit: &found.commit };
            let kept = save_checkpoint(&tx, &kept, None, None).await?;
            save_changes(&tx, session, (found.task, &found.by), &found.changes, HeldBy::pending(Some(kept)))
                .await?;
            tx.commit().await.map_err(StoreError::from)
        })
        .await
    }

    /// A person's step: the state after it, and what it means for the changes. Returns how many changes have another status
    /// now.
    ///
    /// # Errors
    /// [`StoreError`]; nothing is half-written.
    pub async fn save_step(
        &self,
        session: Uuid,
        node: Uuid,
        commit: &str,
        step: PersonStep<'_>,
    ) -> Result<u64, StoreError> {
        when_busy_again(async || {
            let mut client = self.engine().await?;
            let tx = client.transaction().await?;
            let (kind, restores) = match step {
                PersonStep::Restored(id) => (CheckpointKind::Restored, Some(id)),
                PersonStep::Rejected(_) => (CheckpointKind::Rejected, None),
            };
            let after = NewCheckpoint { session, node, kind, commit };
            let after = save_checkpoint(&tx, &after, None, restores).await?;
            let settled = match step {
                PersonStep::Restored(_) => {
                    tx.execute(sql!("checkpoints/settle_changes"), &[&session, &after]).await?
                }
                PersonStep::Rejected(ids) => {
                    tx.execute(sql!("changes/mark_rejected"), &[&ids, &after]).await?
                }
            };
            tx.commit().await?;
            Ok(settled)
        })
        .await
    }
}

fn checkpoint(row: &Row) -> CheckpointRow {
    CheckpointRow {
        id: row.get("id"),
        session: row.get("session_id"),
        task: row.get("task_id"),
        agent: row.get("agent"),
        kind: row.get("kind"),
        commit: row.get("commit_id"),
        node: row.get("node_id"),
        restores: row.get("restores"),
        created_at: row.get("created_at"),
        present: row.get("present"),
    }
}
