//! Reviewable changes as rows.

use super::{Store, StoreError, sql};
use chrono::{DateTime, Utc};
use tokio_postgres::types::Type;
use uuid::Uuid;

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

impl Store {
    /// The changes of a session, in order.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn changes(
        &self,
        session: Uuid,
        status: Option<&str>,
    ) -> Result<Vec<StoredChange>, StoreError> {
        let client = self.reads().await?;
        let rows = client
            .query_typed(sql!("changes/list"), &[(&session, Type::UUID), (&status, Type::TEXT)])
            .await?;
        Ok(rows
            .iter()
            .map(|row| StoredChange {
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
            })
            .collect())
    }

    /// The newest pending change of a session.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn newest_pending(&self, session: Uuid) -> Result<Option<Uuid>, StoreError> {
        let client = self.reads().await?;
        let rows = client.query_typed(sql!("changes/newest_pending"), &[(&session, Type::UUID)]).await?;
        Ok(rows.first().map(|row| row.get(0)))
    }

    /// Marks pending changes up to `newest` as applied. Returns how many.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn mark_applied(&self, session: Uuid, newest: Uuid) -> Result<u64, StoreError> {
        let client = self.engine().await?;
        Ok(client.execute(sql!("changes/applied"), &[&session, &newest]).await?)
    }
}
