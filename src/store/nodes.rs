//! Nodes and the proof that they live.

use super::{Store, StoreError, sql};
use uuid::Uuid;

/// A node as the watcher sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeRow {
    /// Node.
    pub id: Uuid,
    /// Its newest start.
    pub incarnation: Uuid,
    /// Its advisory lock is held now.
    pub alive: bool,
}

impl Store {
    /// A node starts. Returns the key of its advisory lock.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn register_node(
        &self,
        node: Uuid,
        incarnation: Uuid,
        hostname: &str,
    ) -> Result<i32, StoreError> {
        let client = self.engine().await?;
        Ok(client.query_one(sql!("nodes/register"), &[&node, &incarnation, &hostname]).await?.get(0))
    }

    /// Every node.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn watch_nodes(&self) -> Result<Vec<NodeRow>, StoreError> {
        let client = self.renew_connection().await?;
        let watch = client.prepare_cached(sql!("nodes/watch")).await?;
        let rows = client.query(&watch, &[]).await?;
        Ok(rows
            .iter()
            .map(|row| NodeRow { id: row.get(0), incarnation: row.get(1), alive: row.get(2) })
            .collect())
    }

    /// The node was there just now.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn node_seen(&self, node: Uuid) -> Result<(), StoreError> {
        let client = self.renew_connection().await?;
        let seen = client.prepare_cached(sql!("nodes/seen")).await?;
        client.execute(&seen, &[&node]).await?;
        Ok(())
    }
}
