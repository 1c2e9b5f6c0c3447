//! Brings the schema up to date. refinery takes no lock of its own, so an advisory lock is held around it: of several
//! nodes that start together one migrates and the others wait.

use super::connect::connect;
use super::{Store, StoreError, sql};

mod embedded {
    refinery::embed_migrations!("sql/migrations");
}

/// Why the schema could not be brought up to date.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// No connection.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The server is older than 15.
    #[error("PostgreSQL {0} is too old: agentpool needs 15 or later")]
    TooOld(String),
    /// A migration failed, or the schema is newer than this program.
    #[error("the schema cannot be brought up to date: {0}")]
    Migration(#[from] refinery::Error),
}

/// Applies what is missing.
///
/// # Errors
/// When the database cannot be reached, is too old, or a migration fails; nothing is half-applied.
pub async fn migrate(store: &Store) -> Result<(), MigrateError> {
    let (mut client, connection) = connect(store.direct()).await?;
    let driver = tokio::spawn(connection);
    let outcome = locked(&mut client).await;
    drop(client);
    let _ = driver.await;
    outcome
}

async fn locked(client: &mut tokio_postgres::Client) -> Result<(), MigrateError> {
    let number: i32 = scalar(client, "SELECT current_setting('server_version_num')::int").await?;
    if number < 150_000 {
        return Err(MigrateError::TooOld(scalar(client, "SHOW server_version").await?));
    }
    client
        .batch_execute(
            "SET lock_timeout = 0; SET statement_timeout = 0; SELECT pg_advisory_lock(1095782475, 0); \
             CREATE SCHEMA IF NOT EXISTS agentpool",
        )
        .await
        .map_err(StoreError::from)?;
    // The name is qualified: for a role called agentpool the search_path leads elsewhere once the schema exists, and the
    // second start would find no history and migrate again.
    embedded::migrations::runner()
        .set_migration_table_name("agentpool.schema_history")
        .run_async(client)
        .await?;
    Ok(())
}

async fn scalar<T: for<'a> tokio_postgres::types::FromSql<'a>>(
    client: &tokio_postgres::Client,
    query: &str,
) -> Result<T, StoreError> {
    Ok(client.query_one(query, &[]).await?.try_get(0)?)
}

impl Store {
    /// Lets the embedded server's own role write `tasks` instead of `agentpool.tasks`, so that psql is pleasant. A database of the
    /// user's is not touched this way.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn set_search_path(&self) -> Result<(), StoreError> {
        let client = self.engine().await?;
        Ok(client.batch_execute(sql!("health/search_path")).await?)
    }
}
