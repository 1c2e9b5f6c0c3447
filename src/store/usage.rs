//! What turns used, in sums.

use super::{Store, StoreError, sql};
use crate::wire::api::UsageView;
use chrono::{DateTime, Utc};
use tokio_postgres::types::Type;
use uuid::Uuid;

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
    ) -> Result<Vec<UsageView>, StoreError> {
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
        let sum = |row: &tokio_postgres::Row| UsageView {
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
