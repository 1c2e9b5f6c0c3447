//! Is the database there, and can it be written?

use super::{Store, StoreError, sql};

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
    pub async fn queue_depth(&self) -> Result<(i64, i64), StoreError> {
        let client = self.reads().await?;
        let rows = client.query_typed(sql!("tasks/depth"), &[]).await?;
        Ok(rows.first().map_or((0, 0), |row| (row.get(0), row.get(1))))
    }
}
