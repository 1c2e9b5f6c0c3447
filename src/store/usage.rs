//! What turns used, in sums.

use super::{Store, StoreError, sql};
use chrono::{DateTime, Utc};
use tokio_postgres::types::Type;
use uuid::Uuid;

/// A sum.
#[derive(Clone, Debug)]
pub struct UsageRow {
    /// Of what: an agent, a model, a day, a session or a project.
    pub key: String,
    /// Attempts that reported usage.
    pub turns: i64,
    /// Tokens in.
    pub input_tokens: i64,
    /// Tokens out.
    pub output_tokens: i64,
    /// Tokens of thinking.
    pub reasoning_tokens: i64,
    /// Tokens read from a cache.
    pub cache_read_tokens: i64,
    /// Tokens written to a cache.
    pub cache_write_tokens: i64,
    /// US dollars.
    pub cost_usd: f64,
}

impl Store {
    /// Sums by `agent`, `model`, `day`, `session` or `project` over what was used from `since` on and before `until`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn usage(
        &self,
        by: &str,
        (since, until): (DateTime<Utc>, DateTime<Utc>),
        workspace: Option<Uuid>,
        limit: i64,
    ) -> Result<Vec<UsageRow>, StoreError> {
        let client = self.reads().await?;
        let rows = client
            .query_typed(
                sql!("usage/sum"),
                &[
                    (&by, Type::TEXT),
                    (&since, Type::TIMESTAMPTZ),
                    (&until, Type::TIMESTAMPTZ),
                    (&workspace, Type::UUID),
                    (&limit, Type::INT8),
                ],
            )
            .await?;
        let sum = |row: &tokio_postgres::Row| UsageRow {
            key: row.get("key"),
            turns: row.get("turns"),
            input_tokens: row.get("input_tokens"),
            output_tokens: row.get("output_tokens"),
            reasoning_tokens: row.get("reasoning_tokens"),
            cache_read_tokens: row.get("cache_read_tokens"),
            cache_write_tokens: row.get("cache_write_tokens"),
            cost_usd: row.get("cost_usd"),
        };
        Ok(rows.iter().map(sum).collect())
    }
}
