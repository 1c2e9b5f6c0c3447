//! Is the database there, and can it be written?

use super::{Store, StoreError, sql};

/// How much there is to do.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct QueueDepth {
    /// Tasks that wait.
    pub queued: i64,
    /// Tasks that run.
    pub running: i64,
    /// How long the oldest has been due, in seconds.
    pub oldest_secs: f64,
}

impl Store {
    /// Writes one row. A SELECT would also succeed on a read-only database.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn write_probe(&self) -> Result<(), StoreError> {
        let client = self.engine().await?;
        let probe = client.prepare_cached(sql!("health/write_probe")).await?;
        client.execute(&probe, &[]).await?;
        Ok(())
    }

    /// (queued, dispatched or running).
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn queue_depth(&self) -> Result<QueueDepth, StoreError> {
        let client = self.reads().await?;
        let rows = client.query_typed(sql!("tasks/depth"), &[]).await?;
        let depth = rows.first().map(|row| QueueDepth {
            queued: row.get(0),
            running: row.get(1),
            oldest_secs: row.get(2),
        });
        Ok(depth.unwrap_or_default())
    }
}
