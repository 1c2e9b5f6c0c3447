//! The agents that tasks may name.

use super::{Store, StoreError, sql};

/// One agent.
#[derive(Clone, Debug)]
pub struct AgentRow {
    /// Name.
    pub name: String,
    /// Backend kind.
    pub backend: String,
    /// Default model.
    pub default_model: Option<String>,
}

impl Store {
    /// Makes an agent known.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn upsert_agent(
        &self,
        name: &str,
        backend: &str,
        default_model: Option<&str>,
    ) -> Result<(), StoreError> {
        let client = self.engine().await?;
        client.execute(sql!("agents/upsert"), &[&name, &backend, &default_model]).await?;
        Ok(())
    }

    /// All agents.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn agents(&self) -> Result<Vec<AgentRow>, StoreError> {
        let client = self.reads().await?;
        let rows = client.query_typed(sql!("agents/list"), &[]).await?;
        Ok(rows
            .iter()
            .map(|row| AgentRow { name: row.get(0), backend: row.get(1), default_model: row.get(2) })
            .collect())
    }
}
