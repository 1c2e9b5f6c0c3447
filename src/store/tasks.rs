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
                return by_key(&client, key).await;
            }
        }
        tx.commit().await?;
        Ok(Enqueued::New(id))
    }

    /// One task.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn task(&self, id: Uuid) -> Result<Option<TaskRow>, StoreError> {
        let client = self.reads().await?;
        let rows = client.query_typed(sql!("tasks/get"), &[(&id, Type::UUID)]).await?;
        Ok(rows.first().map(task_row))
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
        Ok(rows.iter().map(task_row).collect())
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
async fn by_key(client: &Object, key: &IdempotencyKey) -> Result<Enqueued, StoreError> {
    let by_key = client.prepare_cached(sql!("tasks/by_key")).await?;
    let row = client.query_one(&by_key, &[&key.workspace, &key.key]).await?;
    Ok(if row.get::<_, String>(0) == key.request_hash {
        Enqueued::Before(row.get(1))
    } else {
        Enqueued::KeyConflict
    })
}

fn task_row(row: &Row) -> TaskRow {
    TaskRow {
        id: row.get("id"),
        session: row.get("session_id"),
        agent: row.get("agent"),
        prompt: row.get("prompt"),
        model: row.get("model"),
        priority: row.get("priority"),
        run_at: row.get("run_at"),
        status: row.get("status"),
        attempt: row.get("attempt"),
        failures: row.get("failures"),
        max_failures: row.get("max_failures"),
        cancel_requested_at: row.get("cancel_requested_at"),
        output: row.get("output"),
        error: row.get("error"),
        failure_reason: row.get("failure_reason"),
        created_at: row.get("created_at"),
        started_at: row.get("started_at"),
        finished_at: row.get("finished_at"),
        last_pos: row.get("last_pos"),
    }
}
