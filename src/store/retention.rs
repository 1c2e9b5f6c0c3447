//! Old weeks of the event log are taken out, whole, and with them the tool outputs that were kept beside; nothing else is ever
//! deleted from it.

use super::{Store, StoreError, sql};

impl Store {
    /// Takes out the weeks that ended `days` ago or earlier and hold no event of a task that has not ended. Returns how many. What was
    /// interrupted half-way is gone on with the next time; of several nodes that do it at once one does.
    ///
    /// # Errors
    /// [`StoreError`]; the weeks before are out.
    pub async fn drop_old_events(&self, days: i32) -> Result<usize, StoreError> {
        let client = self.engine().await?;
        let old = client.query(sql!("events/old_partitions"), &[&days]).await?;
        for row in &old {
            let (name, attached, pending): (&str, bool, bool) = (row.get(0), row.get(1), row.get(2));
            // First, or nothing would tell of them any more should this be interrupted.
            while client.execute(sql!("events/delete_outputs"), &[&name]).await? > 0 {}
            // The name is one of ours: letters and digits. Concurrently, since the other way locks out every append behind one open psql.
            if attached {
                let how = if pending { "FINALIZE" } else { "CONCURRENTLY" };
                let detach =
                    format!("ALTER TABLE agentpool.task_messages DETACH PARTITION agentpool.{name} {how}");
                client.batch_execute(&detach).await?;
            }
            client.batch_execute(&format!("DROP TABLE IF EXISTS agentpool.{name}")).await?;
        }
        Ok(old.len())
    }
}
