//! Tokens of the API, by their hashes, and the workspaces that they are for.

use super::{Store, StoreError, sql};
use crate::domain::access::{Caller, Scope};
use crate::domain::ids::WorkspaceId;
use crate::wire::api::TokenView;
use chrono::{DateTime, Utc};
use tokio_postgres::types::Type;
use uuid::Uuid;

impl Store {
    /// Keeps a new token's SHA-256. Returns its id.
    ///
    /// # Errors
    /// [`StoreError::Refused`] for a name that is too long.
    pub async fn create_token(
        &self,
        name: &str,
        scope: Scope,
        workspace: Option<Uuid>,
        hash: &[u8; 32],
    ) -> Result<Uuid, StoreError> {
        let client = self.engine().await?;
        let params: [&(dyn tokio_postgres::types::ToSql + Sync); 4] =
            [&name, &scope.as_str(), &workspace, &hash.as_slice()];
        Ok(client.query_one(sql!("tokens/insert"), &params).await?.get(0))
    }

    /// Every token, newest first, or one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn tokens(&self, id: Option<Uuid>) -> Result<Vec<TokenView>, StoreError> {
        let client = self.reads().await?;
        let rows = client.query_typed(sql!("tokens/list"), &[(&id, Type::UUID)]).await?;
        let token = |row: &tokio_postgres::Row| TokenView {
            id: row.get("id"),
            name: row.get("name"),
            scope: row.get("scope"),
            workspace: row.get("workspace"),
            created_at: row.get("created_at"),
            last_used_at: row.get("last_used_at"),
            revoked_at: row.get("revoked_at"),
        };
        Ok(rows.iter().map(token).collect())
    }

    /// False: unknown, or revoked before.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn revoke_token(&self, id: Uuid) -> Result<bool, StoreError> {
        let client = self.engine().await?;
        Ok(client.query_opt(sql!("tokens/revoke"), &[&id]).await?.is_some())
    }

    /// Whose token has that SHA-256, and whether its use is to be remembered; `None` lets nobody in.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn caller(&self, hash: &[u8; 32]) -> Result<Option<(Caller, bool)>, StoreError> {
        let client = self.reads().await?;
        let rows = client.query_typed(sql!("tokens/by_hash"), &[(&hash.as_slice(), Type::BYTEA)]).await?;
        Ok(rows.first().and_then(|row| {
            let scope = Scope::parse(row.get("scope"))?;
            let workspace = row.get::<_, Option<Uuid>>("workspace_id").map(WorkspaceId);
            Some((Caller { token: Some(row.get("id")), scope, workspace }, row.get("stale")))
        }))
    }

    /// The token was used just now.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn token_used(&self, id: Uuid) -> Result<(), StoreError> {
        let client = self.engine().await?;
        client.execute(sql!("tokens/used"), &[&id]).await?;
        Ok(())
    }

    /// A new workspace; `None` when there is one of that name.
    ///
    /// # Errors
    /// [`StoreError::Refused`] for a name that is none.
    pub async fn create_workspace(&self, name: &str) -> Result<Option<Uuid>, StoreError> {
        let client = self.engine().await?;
        Ok(client.query_opt(sql!("workspaces/insert"), &[&name]).await?.map(|row| row.get(0)))
    }

    /// Every workspace: id, name, since when.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn workspaces(&self) -> Result<Vec<(Uuid, String, DateTime<Utc>)>, StoreError> {
        let client = self.reads().await?;
        let rows = client.query_typed(sql!("workspaces/list"), &[]).await?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect())
    }
}
