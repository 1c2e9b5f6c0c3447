//! Leases between their claim and their end: renewed, watched, taken from a lost owner. Never claims and never finishes.

use super::queue::LEASE_SECS;
use super::{Store, StoreError, sql, when_busy_again};
use chrono::{DateTime, Utc};
use tokio_postgres::Row;
use uuid::Uuid;

/// A lease of somebody else, as seen.
#[derive(Clone, Debug, PartialEq)]
pub struct ForeignLease {
    /// Lane.
    pub session: Uuid,
    /// Fence.
    pub fence: i64,
    /// Whose.
    pub node: Uuid,
    /// Which start.
    pub incarnation: Uuid,
    /// Until when; changes with every renewal.
    pub lease_until: DateTime<Utc>,
}

impl Store {
    /// Extends leases. Returns, for each that is still held, (session, fence, cancel asked).
    ///
    /// # Errors
    /// [`StoreError`]; then no lease was extended.
    pub async fn renew(&self, held: &[(Uuid, i64)]) -> Result<Vec<(Uuid, i64, bool)>, StoreError> {
        let (sessions, fences) = held.iter().copied().unzip::<_, _, Vec<Uuid>, Vec<i64>>();
        when_busy_again(async || {
            let client = self.renew_connection().await?;
            let renew = client.prepare_cached(sql!("queue/renew")).await?;
            let rows = client.query(&renew, &[&sessions, &fences, &LEASE_SECS]).await?;
            Ok(rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect())
        })
        .await
    }

    /// Which of these tasks were asked to be cancelled.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn cancels_asked(&self, tasks: &[Uuid]) -> Result<Vec<Uuid>, StoreError> {
        let client = self.renew_connection().await?;
        let asked = client.prepare_cached(sql!("queue/cancels_asked")).await?;
        let rows = client.query(&asked, &[&tasks]).await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    /// What the rows say that this incarnation holds: (session, fence, task).
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn own_leases(&self, incarnation: Uuid) -> Result<Vec<(Uuid, i64, Uuid)>, StoreError> {
        let client = self.renew_connection().await?;
        let own = client.prepare_cached(sql!("queue/own_leases")).await?;
        let rows = client.query(&own, &[&incarnation]).await?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect())
    }

    /// Takes leases away from their owners and puts their lanes back in line. Returns the sessions that moved.
    ///
    /// # Errors
    /// [`StoreError`]; nothing is half-done.
    pub async fn rescue(&self, leases: &[ForeignLease], whole: bool) -> Result<Vec<Uuid>, StoreError> {
        let sessions: Vec<Uuid> = leases.iter().map(|l| l.session).collect();
        let fences: Vec<i64> = leases.iter().map(|l| l.fence).collect();
        let until: Vec<DateTime<Utc>> = leases.iter().map(|l| l.lease_until).collect();
        when_busy_again(async || {
            let mut client = self.renew_connection().await?;
            let tx = client.transaction().await?;
            let rescue = tx.prepare_cached(sql!("queue/rescue")).await?;
            let settle = tx.prepare_cached(sql!("queue/settle_lanes")).await?;
            let notify = tx.prepare_cached(sql!("queue/notify_tasks_new")).await?;
            let rows = tx.query(&rescue, &[&sessions, &fences, &until, &whole]).await?;
            if rows.is_empty() {
                return Ok(Vec::new());
            }
            let moved: Vec<Uuid> = rows.iter().map(|row| row.get(0)).collect();
            tx.execute(&settle, &[&moved]).await?;
            tx.execute(&notify, &[]).await?;
            let readers = tx.prepare_cached(sql!("events/notify")).await?;
            tx.execute(&readers, &[&""]).await?;
            tx.commit().await?;
            Ok(moved)
        })
        .await
    }

    /// Frees lanes of dead homes that may move. Returns how many.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn rehome(&self, dead: &[Uuid]) -> Result<u64, StoreError> {
        let mut client = self.renew_connection().await?;
        let tx = client.transaction().await?;
        let rehome = tx.prepare_cached(sql!("queue/rehome")).await?;
        let moved = tx.execute(&rehome, &[&dead, &100_i64]).await?;
        if moved > 0 {
            let notify = tx.prepare_cached(sql!("queue/notify_tasks_new")).await?;
            tx.execute(&notify, &[]).await?;
        }
        tx.commit().await?;
        Ok(moved)
    }
}

pub(super) fn foreign_lease(row: &Row) -> ForeignLease {
    ForeignLease {
        session: row.get("session_id"),
        fence: row.get("fence"),
        node: row.get("lease_node"),
        incarnation: row.get("lease_incarnation"),
        lease_until: row.get("lease_until"),
    }
}
