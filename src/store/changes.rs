//! Reviewable changes as rows.

use super::{Store, StoreError, sql};
use crate::domain::story::Step;
use chrono::{DateTime, Utc};
use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};
use uuid::Uuid;

/// Bytes of diffs in one page of changes; a single longer one is a page of its own.
const PAGE_BYTES_MAX: i64 = 8 << 20;

/// Bytes of diffs from which the authors of a file's lines are told; of older changes only who made them is.
const STORY_BYTES_MAX: i64 = 32 << 20;

/// One change of one turn.
#[derive(Clone, Debug)]
pub struct StoredChange {
    /// Id.
    pub id: Uuid,
    /// Session.
    pub session: Uuid,
    /// Task; none when a person did it.
    pub task: Option<Uuid>,
    /// Agent name or `user`.
    pub agent: String,
    /// Path.
    pub path: String,
    /// Path before a rename.
    pub old_path: Option<String>,
    /// Operation.
    pub operation: String,
    /// Mode before.
    pub old_mode: Option<String>,
    /// Mode after.
    pub new_mode: Option<String>,
    /// Binary.
    pub binary: bool,
    /// Unified diff.
    pub diff: Option<String>,
    /// Lines added.
    pub additions: i64,
    /// Lines removed.
    pub deletions: i64,
    /// Status.
    pub status: String,
    /// When found.
    pub created_at: DateTime<Utc>,
}

/// What a listing is to hold; `None` leaves all in.
#[derive(Clone, Debug)]
pub struct ChangeFilter {
    /// Of that session.
    pub session: Uuid,
    /// Of that task.
    pub task: Option<Uuid>,
    /// With that status.
    pub status: Option<String>,
    /// After that change.
    pub after: Option<Uuid>,
}

/// One change of one file that is in the present state, without its content.
#[derive(Clone, Debug)]
pub struct StoredStep {
    /// Id.
    pub id: Uuid,
    /// Number of the state that it came with.
    pub checkpoint: Option<i64>,
    /// Task; none when a person did it.
    pub task: Option<Uuid>,
    /// Agent name or `user`.
    pub agent: String,
    /// Path.
    pub path: String,
    /// Path before a rename.
    pub old_path: Option<String>,
    /// `pending` or `applied`.
    pub status: String,
    /// Lines added.
    pub additions: i64,
    /// Lines removed.
    pub deletions: i64,
}

impl StoredStep {
    /// Its place in its file's story.
    pub fn step(&self) -> Step<'_> {
        Step { moment: self.checkpoint, path: &self.path, old_path: self.old_path.as_deref() }
    }
}

/// The content of one change.
#[derive(Clone, Debug)]
pub struct StoredDiff {
    /// Task; none when a person did it.
    pub task: Option<Uuid>,
    /// Agent name or `user`.
    pub agent: String,
    /// Mode before.
    pub old_mode: Option<String>,
    /// Mode after.
    pub new_mode: Option<String>,
    /// Blob before.
    pub old_blob: Option<String>,
    /// Blob after.
    pub new_blob: Option<String>,
    /// Unified diff.
    pub diff: Option<String>,
}

impl Store {
    /// Changes of a session, in order, and whether there are more: at most `limit`, and less where they are long.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn changes(
        &self,
        filter: &ChangeFilter,
        limit: i64,
    ) -> Result<(Vec<StoredChange>, bool), StoreError> {
        let client = self.reads().await?;
        let rows = client
            .query_typed(
                sql!("changes/list"),
                &[
                    (&filter.session, Type::UUID),
                    (&filter.task, Type::UUID),
                    (&filter.status, Type::TEXT),
                    (&filter.after, Type::UUID),
                    (&limit, Type::INT8),
                    (&PAGE_BYTES_MAX, Type::INT8),
                ],
            )
            .await?;
        let found: i64 = rows.first().map_or(0, |row| row.get("found"));
        let more = found >= limit || i64::try_from(rows.len()).is_ok_and(|count| count < found);
        Ok((rows.iter().map(change).collect(), more))
    }

    /// What made the files of a session what they are, in order.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn change_steps(&self, session: Uuid) -> Result<Vec<StoredStep>, StoreError> {
        let client = self.reads().await?;
        let rows = client.query_typed(sql!("changes/steps"), &[(&session, Type::UUID)]).await?;
        let step = |row: &Row| StoredStep {
            id: row.get("id"),
            checkpoint: row.get("checkpoint_id"),
            task: row.get("task_id"),
            agent: row.get("agent"),
            path: row.get("file_path"),
            old_path: row.get("old_path"),
            status: row.get("status"),
            additions: row.get("additions"),
            deletions: row.get("deletions"),
        };
        Ok(rows.iter().map(step).collect())
    }

    /// The contents of those changes, in order; the oldest without their diffs where all together are above 32 MiB.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn change_diffs(&self, ids: &[Uuid]) -> Result<Vec<StoredDiff>, StoreError> {
        let client = self.reads().await?;
        let params: [(&(dyn ToSql + Sync), Type); 2] =
            [(&ids, Type::UUID_ARRAY), (&STORY_BYTES_MAX, Type::INT8)];
        let rows = client.query_typed(sql!("changes/diffs"), &params).await?;
        let diff = |row: &Row| StoredDiff {
            task: row.get("task_id"),
            agent: row.get("agent"),
            old_mode: row.get("old_mode"),
            new_mode: row.get("new_mode"),
            old_blob: row.get("old_blob"),
            new_blob: row.get("new_blob"),
            diff: row.get("diff"),
        };
        Ok(rows.iter().map(diff).collect())
    }

    /// Marks those of them that wait for review as applied. Returns how many.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn mark_applied(&self, ids: &[Uuid]) -> Result<u64, StoreError> {
        let client = self.engine().await?;
        Ok(client.execute(sql!("changes/mark_applied"), &[&ids]).await?)
    }
}

fn change(row: &Row) -> StoredChange {
    StoredChange {
        id: row.get("id"),
        session: row.get("session_id"),
        task: row.get("task_id"),
        agent: row.get("agent"),
        path: row.get("file_path"),
        old_path: row.get("old_path"),
        operation: row.get("operation"),
        old_mode: row.get("old_mode"),
        new_mode: row.get("new_mode"),
        binary: row.get("is_binary"),
        diff: row.get("diff"),
        additions: row.get("additions"),
        deletions: row.get("deletions"),
        status: row.get("status"),
        created_at: row.get("created_at"),
    }
}
