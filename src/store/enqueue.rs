//! Tasks put into the queue by the API. Never reads the queue and never touches a lane.

use super::{Store, StoreError, sql};
use chrono::{DateTime, Utc};
use deadpool_postgres::{Object, Transaction};
use serde_json::Value;
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
        let tx = client.transaction().await?;
        let id = insert(&tx, task).await?;
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

    /// Enqueues all of them or none, in their order, in one commit.
    ///
    /// # Errors
    /// As [`Store::enqueue`]; then none is in the queue.
    pub async fn enqueue_all(&self, tasks: &[NewTask]) -> Result<Vec<Uuid>, StoreError> {
        let mut client = self.engine().await?;
        let tx = client.transaction().await?;
        let mut ids = Vec::with_capacity(tasks.len());
        for task in tasks {
            ids.push(insert(&tx, task).await?);
        }
        tx.commit().await?;
        Ok(ids)
    }

    /// Puts a task that failed or was cancelled in again, as a new one; `None` when it is unknown or has not ended so.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn enqueue_again(&self, task: Uuid) -> Result<Option<Uuid>, StoreError> {
        let client = self.engine().await?;
        let again = client.prepare_cached(sql!("tasks/insert_again")).await?;
        Ok(client.query_opt(&again, &[&task]).await?.map(|row| row.get(0)))
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
}

async fn insert(tx: &Transaction<'_>, task: &NewTask) -> Result<Uuid, StoreError> {
    let insert = tx.prepare_cached(sql!("tasks/insert")).await?;
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
    Ok(row.get(0))
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
