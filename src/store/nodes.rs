//! Nodes and the proof that they live.

use super::leases::{ForeignLease, foreign_lease};
use super::{Store, StoreError, sql};
use deadpool_postgres::Object;
use std::time::Instant;
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

/// What one connection saw at one moment.
#[derive(Clone, Debug)]
pub struct Look {
    /// When the connection was made: two looks with the same value saw an uninterrupted stretch.
    pub connected_at: Instant,
    /// Leases of other incarnations.
    pub leases: Vec<ForeignLease>,
    /// Every node.
    pub nodes: Vec<NodeRow>,
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

    /// The leases of other incarnations, and every node, over one connection.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn look(&self, incarnation: Uuid) -> Result<Look, StoreError> {
        let client = self.renew_connection().await?;
        let foreign = client.prepare_cached(sql!("queue/foreign_leases")).await?;
        let watch = client.prepare_cached(sql!("nodes/watch")).await?;
        let leases = client.query(&foreign, &[&incarnation]).await?;
        let nodes = client.query(&watch, &[]).await?;
        Ok(Look {
            connected_at: Object::metrics(&client).created,
            leases: leases.iter().map(foreign_lease).collect(),
            nodes: nodes
                .iter()
                .map(|row| NodeRow { id: row.get(0), incarnation: row.get(1), alive: row.get(2) })
                .collect(),
        })
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
