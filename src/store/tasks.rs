//! Tasks as the API sees them: read, ask to cancel. Never puts one in, claims or ends one.

use super::{Store, StoreError, sql};
use chrono::{DateTime, Utc};
use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

/// A task as stored.
#[derive(Clone, Debug)]
pub struct TaskRow {
    /// Id.
    pub id: Uuid,
    /// Session.
    pub session: Uuid,
    /// Its tenant.
    pub workspace: Uuid,
    /// Agent.
    pub agent: String,
    /// Prompt.
    pub prompt: String,
    /// Wish.
    pub model: Option<String>,
    /// Priority.
    pub priority: i16,
    /// Not before.
    pub run_at: Option<DateTime<Utc>>,
    /// Status.
    pub status: String,
    /// Executions so far.
    pub attempt: i32,
    /// Charged failures.
    pub failures: i32,
    /// How many are too many.
    pub max_failures: i32,
    /// When a cancel was asked.
    pub cancel_requested_at: Option<DateTime<Utc>>,
    /// Answer.
    pub output: Option<String>,
    /// Last error.
    pub error: Option<String>,
    /// Last reason.
    pub failure_reason: Option<String>,
    /// When enqueued.
    pub created_at: DateTime<Utc>,
    /// When first prompted.
    pub started_at: Option<DateTime<Utc>>,
    /// When ended.
    pub finished_at: Option<DateTime<Utc>>,
    /// Last position of its session's stream.
    pub last_pos: Option<i64>,
    /// The task that it puts in again.
    pub retry_of: Option<Uuid>,
}

/// What a listing is to hold; `None` leaves all in.
#[derive(Clone, Debug, Default)]
pub struct TaskFilter {
    /// Of that session.
    pub session: Option<Uuid>,
    /// With that status.
    pub status: Option<String>,
    /// For that agent.
    pub agent: Option<String>,
    /// Older than that task.
    pub before: Option<Uuid>,
    /// Of that tenant.
    pub workspace: Option<Uuid>,
}

/// How a task ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskEnd {
    /// `completed`, `failed` or `cancelled`.
    pub status: String,
    /// Reason of a failure.
    pub failure_reason: Option<String>,
    /// Error in words.
    pub error: Option<String>,
}

impl Store {
    /// One task.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn task(&self, id: Uuid) -> Result<Option<TaskRow>, StoreError> {
        let client = self.reads().await?;
        let rows = client.query_typed(sql!("tasks/get"), &[(&id, Type::UUID)]).await?;
        rows.first().map(task_row).transpose()
    }

    /// How a task ended; `None` while it has not, or when it is unknown.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn task_end(&self, id: Uuid) -> Result<Option<TaskEnd>, StoreError> {
        let client = self.reads().await?;
        let rows = client.query_typed(sql!("tasks/ended"), &[(&id, Type::UUID)]).await?;
        Ok(rows.first().map(|row| TaskEnd {
            status: row.get("status"),
            failure_reason: row.get("failure_reason"),
            error: row.get("error"),
        }))
    }

    /// Tasks, newest first; long texts are cut to 200 characters.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn tasks(&self, filter: &TaskFilter, limit: i64) -> Result<Vec<TaskRow>, StoreError> {
        let client = self.reads().await?;
        let rows = client
            .query_typed(
                sql!("tasks/list"),
                &[
                    (&filter.session, Type::UUID),
                    (&filter.status, Type::TEXT),
                    (&filter.agent, Type::TEXT),
                    (&filter.before, Type::UUID),
                    (&filter.workspace, Type::UUID),
                    (&limit, Type::INT8),
                ],
            )
            .await?;
        rows.iter().map(task_row).collect()
    }

    /// Asks to cancel; false when the task is unknown or has ended.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn ask_cancel(&self, id: Uuid) -> Result<bool, StoreError> {
        let client = self.engine().await?;
        let ask = client.prepare_cached(sql!("tasks/ask_cancel")).await?;
        Ok(client.execute(&ask, &[&id]).await? > 0)
    }
}

/// A value that does not fit our types (a date beyond chrono's) is an error of this read alone, never a panic.
fn task_row(row: &Row) -> Result<TaskRow, StoreError> {
    let read = || {
        Ok(TaskRow {
            id: row.try_get("id")?,
            session: row.try_get("session_id")?,
            workspace: row.try_get("workspace_id")?,
            agent: row.try_get("agent")?,
            prompt: row.try_get("prompt")?,
            model: row.try_get("model")?,
            priority: row.try_get("priority")?,
            run_at: row.try_get("run_at")?,
            status: row.try_get("status")?,
            attempt: row.try_get("attempt")?,
            failures: row.try_get("failures")?,
            max_failures: row.try_get("max_failures")?,
            cancel_requested_at: row.try_get("cancel_requested_at")?,
            output: row.try_get("output")?,
            error: row.try_get("error")?,
            failure_reason: row.try_get("failure_reason")?,
            created_at: row.try_get("created_at")?,
            started_at: row.try_get("started_at")?,
            finished_at: row.try_get("finished_at")?,
            last_pos: row.try_get("last_pos")?,
            retry_of: row.try_get("retry_of")?,
        })
    };
    read().map_err(StoreError::Statement)
}
