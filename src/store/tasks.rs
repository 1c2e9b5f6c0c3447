//! Tasks as the API sees them: enqueue, read, ask to cancel. Never claims and never ends one.

use super::{Store, StoreError, sql};
use chrono::{DateTime, Utc};
use deadpool_postgres::Object;
use serde_json::Value;
use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

/// A task to be enqueued.
#[derive(Clone, Debug)]
pub struct NewTask {
    /// Session.
    pub session: Uuid,
    /// Agent.
    pub agent: String,
    /// Prompt.
    pub prompt: String,
    /// Wish.
    pub model: Option<String>,
    /// Wish.
    pub mode_id: Option<String>,
    /// Wish.
    pub thinking_option_id: Option<String>,
    /// Wish.
    pub feature_values: Option<Value>,
    /// -100 to 100, higher first.
    pub priority: Option<i16>,
    /// Not before.
    pub run_at: Option<DateTime<Utc>>,
    /// Charged failures after which it fails.
    pub max_failures: Option<i32>,
}

/// An idempotency key with the hash of the request that it stands for.
#[derive(Clone, Debug)]
pub struct IdempotencyKey {
    /// Tenant.
    pub workspace: Uuid,
    /// The client's key.
    pub key: String,
    /// SHA-256 of the request.
    pub request_hash: String,
}

/// What became of an enqueue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enqueued {
    /// A new task.
    New(Uuid),
    /// The key was used before with the same request: this task.
    Before(Uuid),
    /// The key was used before with another request.
    KeyConflict,
}

/// A task as stored.
#[derive(Clone, Debug)]
pub struct TaskRow {
    /// Id.
    pub id: Uuid,
    /// Session.
    pub session: Uuid,
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
    /// Enqueues; the commit wakes the dispatchers.
    ///
    /// # Errors
    /// [`StoreError::Refused`] for an unknown session or agent and for what the table's CHECKs refuse.
    pub async fn enqueue(
        &self,
        task: &NewTask,
        key: Option<&IdempotencyKey>,
    ) -> Result<Enqueued, StoreError> {
        loop {
            // None: the key was taken when it was to be bound, and then its week was over. It is free now.
            if let Some(enqueued) = self.enqueue_once(task, key).await? {
                return Ok(enqueued);
            }
        }
    }

    async fn enqueue_once(
        &self,
        task: &NewTask,
        key: Option<&IdempotencyKey>,
    ) -> Result<Option<Enqueued>, StoreError> {
        let mut client = self.engine().await?;
        let insert = client.prepare_cached(sql!("tasks/insert")).await?;
        let tx = client.transaction().await?;
        let row = tx
            .query_one(
                &insert,
                &[
                    &task.session,
                    &task.agent,
                    &task.prompt,
                    &task.model,
                    &task.mode_id,
                    &task.thinking_option_id,
                    &task.feature_values,
                    &task.priority,
                    &task.run_at,
                    &task.max_failures,
                ],
            )
            .await?;
        let id: Uuid = row.get(0);
        if let Some(key) = key {
            let remember = tx.prepare_cached(sql!("tasks/remember_key")).await?;
            if tx.query_opt(&remember, &[&key.workspace, &key.key, &key.request_hash, &id]).await?.is_none() {
                // The key is taken: nothing of this transaction is kept.
                tx.rollback().await?;
                return bound_to(&client, key).await;
            }
        }
        tx.commit().await?;
        Ok(Some(Enqueued::New(id)))
    }

    /// What a key of the last 7 days stands for; `None` when it is free.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn enqueued_before(&self, key: &IdempotencyKey) -> Result<Option<Enqueued>, StoreError> {
        let client = self.engine().await?;
        bound_to(&client, key).await
    }

    /// Forgets idempotency keys older than 7 days, 1,000 at most. Returns how many.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn forget_old_keys(&self) -> Result<u64, StoreError> {
        let client = self.engine().await?;
        let forget = client.prepare_cached(sql!("tasks/forget_old_keys")).await?;
        Ok(client.execute(&forget, &[]).await?)
    }

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
    pub async fn tasks(
        &self,
        session: Option<Uuid>,
        status: Option<&str>,
        limit: i64,
    ) -> Result<Vec<TaskRow>, StoreError> {
        let client = self.reads().await?;
        let rows = client
            .query_typed(
                sql!("tasks/list"),
                &[(&session, Type::UUID), (&status, Type::TEXT), (&limit, Type::INT8)],
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

/// On the connection that the caller has: to ask the pool for a second one while holding the first would let a burst of
/// the same key wait for itself.
async fn bound_to(client: &Object, key: &IdempotencyKey) -> Result<Option<Enqueued>, StoreError> {
    let by_key = client.prepare_cached(sql!("tasks/by_key")).await?;
    let row = client.query_opt(&by_key, &[&key.workspace, &key.key]).await?;
    Ok(row.map(|row| match row.get::<_, String>(0) == key.request_hash {
        true => Enqueued::Before(row.get(1)),
        false => Enqueued::KeyConflict,
    }))
}

/// A value that does not fit our types (a date beyond chrono's) is an error of this read alone, never a panic.
fn task_row(row: &Row) -> Result<TaskRow, StoreError> {
    let read = || {
        Ok(TaskRow {
            id: row.try_get("id")?,
            session: row.try_get("session_id")?,
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
        })
    };
    read().map_err(StoreError::Statement)
}
