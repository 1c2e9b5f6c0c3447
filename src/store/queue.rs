//! The queue's statements, bundled into the transactions of the dispatcher: admit; tick (finish, then claim). No transaction
//! takes lane locks twice, and lanes come before tasks. What happens to a lease between is in `leases`.

use super::{Store, StoreError, sql, when_busy_again};
use serde_json::Value;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Row, Statement};
use uuid::Uuid;

/// Seconds that a lease lasts without being renewed.
pub const LEASE_SECS: f64 = 15.0;
/// How many tasks one admission looks at.
const ADMIT_MAX: i64 = 500;

/// How a turn leaves its lease.
#[derive(Clone, Debug)]
pub struct FinishRow {
    /// Lane.
    pub session: Uuid,
    /// Its fence.
    pub fence: i64,
    /// Its head.
    pub task: Uuid,
    /// New status of the task; `queued` gives it back.
    pub status: &'static str,
    /// For `queued`: seconds until it may run again.
    pub wait_secs: f64,
    /// Failure reason.
    pub reason: Option<&'static str>,
    /// Failure text.
    pub error: Option<String>,
    /// 1 when the failure is the task's own.
    pub charged: i32,
    /// The conversation's new state, when there is one: (agent, status, poisoned reason).
    pub conversation: Option<(String, &'static str, Option<&'static str>)>,
}

/// What a finish came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finished {
    /// The rows are written.
    Done,
    /// They had been written before; the answer was lost.
    DoneBefore,
    /// Somebody else holds a lock on the task's row; the lease stays, try again.
    Busy,
    /// Another may hold the lane now; nothing was written.
    LostLease,
}

/// What a node is ready to take.
#[derive(Clone, Debug)]
pub struct ClaimWish {
    /// Who.
    pub node: Uuid,
    /// Which start of it.
    pub incarnation: Uuid,
    /// Free hands.
    pub hands: u16,
    /// Agents that can run here now.
    pub agents: Vec<String>,
}

/// One leased head.
#[derive(Clone, Debug)]
pub struct ClaimedRow {
    /// Lane.
    pub session: Uuid,
    /// Head.
    pub task: Uuid,
    /// New fence.
    pub fence: i64,
    /// Tenant.
    pub workspace: Uuid,
    /// Agent name.
    pub agent: String,
    /// Prompt.
    pub prompt: String,
    /// Wish.
    pub model: Option<String>,
    /// Wish.
    pub mode_id: Option<String>,
    /// Wish.
    pub thinking_option_id: Option<String>,
    /// Wish.
    pub feature_values: Option<Value>,
    /// Which execution this is.
    pub attempt: i32,
    /// Charged failures so far.
    pub failures: i32,
    /// How many are too many.
    pub max_failures: i32,
    /// Last stored event.
    pub last_seq: i64,
    /// Fence of the attempt before.
    pub previous_fence: Option<i64>,
    /// Cancel was asked already.
    pub cancel_requested: bool,
}

/// What a tick answers.
#[derive(Debug, Default)]
pub struct TickRows {
    /// In the order of the finishes given.
    pub finished: Vec<Finished>,
    /// New leases.
    pub claimed: Vec<ClaimedRow>,
    /// More is ready or waits for admission.
    pub more: bool,
    /// Seconds until something falls due.
    pub due_in_secs: Option<f64>,
}

impl Store {
    /// Admits due tasks, ends cancelled ones, wakes waiting lanes. Returns how many lanes were looked at.
    ///
    /// # Errors
    /// [`StoreError`]; nothing is half-done.
    pub async fn admit(&self) -> Result<usize, StoreError> {
        when_busy_again(|| self.admit_once()).await
    }

    async fn admit_once(&self) -> Result<usize, StoreError> {
        let mut client = self.tick_connection().await?;
        let candidates = client.prepare_cached(sql!("queue/admit_candidates")).await?;
        let rows = client.query(&candidates, &[&ADMIT_MAX]).await?;
        let sessions: Vec<Uuid> = rows.iter().map(|row| row.get(0)).collect();
        if sessions.is_empty() {
            return Ok(0);
        }
        let tx = client.transaction().await?;
        let lock = tx.prepare_cached(sql!("queue/try_admission_lock")).await?;
        if !tx.query_one(&lock, &[]).await?.get::<_, bool>(0) {
            return Ok(0);
        }
        let ensure = tx.prepare_cached(sql!("queue/ensure_lanes")).await?;
        let lanes = tx.prepare_cached(sql!("queue/lock_lanes")).await?;
        let end = tx.prepare_cached(sql!("queue/end_queued")).await?;
        let admit = tx.prepare_cached(sql!("queue/admit_tasks")).await?;
        let settle = tx.prepare_cached(sql!("queue/settle_lanes")).await?;
        // Sent in one go; each statement still gets a snapshot of its own, taken after the lock before it.
        let these: [&(dyn ToSql + Sync); 1] = [&sessions];
        let these_and_max: [&(dyn ToSql + Sync); 2] = [&sessions, &ADMIT_MAX];
        let (_, _, ended, _, _) = futures::try_join!(
            tx.execute(&ensure, &these),
            tx.execute(&lanes, &these),
            tx.execute(&end, &these),
            tx.execute(&admit, &these_and_max),
            tx.execute(&settle, &these),
        )?;
        if ended > 0 {
            let readers = tx.prepare_cached(sql!("events/notify")).await?;
            tx.execute(&readers, &[&""]).await?;
        } else {
            // Nobody waits for the disk: what a crash of Postgres forgets is admitted again, and a claim that builds on it is
            // written after it.
            tx.batch_execute("SET LOCAL synchronous_commit TO off").await?;
        }
        tx.commit().await?;
        Ok(sessions.len())
    }

    /// Writes the ends of turns and leases new heads, in one transaction. Once that is committed nothing fails any
    /// more: an error would lose the new leases. What cannot be read then is answered so that the caller asks again.
    ///
    /// # Errors
    /// [`StoreError`]; then nothing was written, or the answer was lost: giving the same finishes again is safe.
    pub async fn tick(&self, finishes: &[FinishRow], wish: &ClaimWish) -> Result<TickRows, StoreError> {
        let (mut finished, claimed) = when_busy_again(|| self.tick_once(finishes, wish)).await?;
        if finished.contains(&Finished::LostLease)
            && let Err(error) = self.tell_lost_from_done(finishes, &mut finished).await
        {
            tracing::warn!(%error, "whether a lost lease was a finish before is not known; it is asked again");
            for outcome in finished.iter_mut().filter(|outcome| **outcome == Finished::LostLease) {
                *outcome = Finished::Busy;
            }
        }
        let (more, due_in_secs) = self.outlook(wish).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "the outlook of the queue is not known; it is asked again");
            (true, None)
        });
        Ok(TickRows { finished, claimed, more, due_in_secs })
    }

    async fn tick_once(
        &self,
        finishes: &[FinishRow],
        wish: &ClaimWish,
    ) -> Result<(Vec<Finished>, Vec<ClaimedRow>), StoreError> {
        let mut client = self.tick_connection().await?;
        let tx = client.transaction().await?;
        let finished = if finishes.is_empty() { Vec::new() } else { finish(&tx, finishes).await? };
        // At hand before anything is sent, so that the order below is the order of the statements.
        let statement = tx.prepare_cached(sql!("queue/claim")).await?;
        let claimed = async {
            match wish.hands == 0 || wish.agents.is_empty() {
                true => Ok((Vec::new(), Vec::new())),
                false => claim(&tx, &statement, wish).await,
            }
        };
        // Sent in one go. A lane that was freed and is claimed in the same breath is not ready for others any more.
        let ((claimed, phantoms), ()) = futures::try_join!(claimed, hint(&tx, finishes, wish))?;
        if !phantoms.is_empty() {
            // Our claim has locked them; a later statement of the same transaction may settle them.
            let settle = tx.prepare_cached(sql!("queue/settle_lanes")).await?;
            tx.execute(&settle, &[&phantoms]).await?;
        }
        tx.commit().await?;
        Ok((finished, claimed))
    }

    async fn outlook(&self, wish: &ClaimWish) -> Result<(bool, Option<f64>), StoreError> {
        let client = self.tick_connection().await?;
        let outlook = client.prepare_cached(sql!("queue/outlook")).await?;
        let next = client.query_one(&outlook, &[&wish.node, &wish.agents]).await?;
        Ok((next.get("more"), next.get("due_in_secs")))
    }

    async fn tell_lost_from_done(
        &self,
        finishes: &[FinishRow],
        finished: &mut [Finished],
    ) -> Result<(), StoreError> {
        let client = self.tick_connection().await?;
        let before = client.prepare_cached(sql!("queue/finished_before")).await?;
        let tasks: Vec<Uuid> = finishes.iter().map(|f| f.task).collect();
        let fences: Vec<i64> = finishes.iter().map(|f| f.fence).collect();
        let status: Vec<&str> = finishes.iter().map(|f| f.status).collect();
        let reasons: Vec<Option<&str>> = finishes.iter().map(|f| f.reason).collect();
        let rows = client.query(&before, &[&tasks, &fences, &status, &reasons]).await?;
        let done: Vec<(Uuid, i64)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        for (finish, outcome) in finishes.iter().zip(finished) {
            if *outcome == Finished::LostLease && done.contains(&(finish.task, finish.fence)) {
                *outcome = Finished::DoneBefore;
            }
        }
        Ok(())
    }
}

async fn finish(
    tx: &deadpool_postgres::Transaction<'_>,
    finishes: &[FinishRow],
) -> Result<Vec<Finished>, StoreError> {
    let lock = tx.prepare_cached(sql!("queue/lock_leases")).await?;
    let end = tx.prepare_cached(sql!("queue/finish_tasks")).await?;
    let conversations = tx.prepare_cached(sql!("queue/finish_agent_sessions")).await?;
    let settle = tx.prepare_cached(sql!("queue/settle_lanes")).await?;
    let sessions: Vec<Uuid> = finishes.iter().map(|f| f.session).collect();
    let fences: Vec<i64> = finishes.iter().map(|f| f.fence).collect();
    let tasks: Vec<Uuid> = finishes.iter().map(|f| f.task).collect();
    let status: Vec<&str> = finishes.iter().map(|f| f.status).collect();
    let waits: Vec<f64> = finishes.iter().map(|f| f.wait_secs).collect();
    let reasons: Vec<Option<&str>> = finishes.iter().map(|f| f.reason).collect();
    let errors: Vec<Option<&str>> = finishes.iter().map(|f| f.error.as_deref()).collect();
    let charged: Vec<i32> = finishes.iter().map(|f| f.charged).collect();
    // Sent in one go, the locks first.
    let leases: [&(dyn ToSql + Sync); 2] = [&sessions, &fences];
    let ends: [&(dyn ToSql + Sync); 8] =
        [&sessions, &fences, &tasks, &status, &waits, &reasons, &errors, &charged];
    let (held, ended) = futures::try_join!(tx.query(&lock, &leases), tx.query(&end, &ends))?;
    let held: Vec<(Uuid, i64)> = held.iter().map(|row| (row.get(0), row.get(1))).collect();
    // By fence: a zombie's finish may stand beside that of the lane's new owner.
    let ended: Vec<(Uuid, i64)> = ended.iter().map(|row| (row.get(0), row.get(1))).collect();
    let told: Vec<_> = finishes
        .iter()
        .filter(|f| ended.contains(&(f.session, f.fence)))
        .filter_map(|f| f.conversation.as_ref().map(|c| (f.session, c)))
        .collect();
    let told_sessions: Vec<Uuid> = told.iter().map(|(session, _)| *session).collect();
    let told_agents: Vec<&str> = told.iter().map(|(_, c)| c.0.as_str()).collect();
    let told_status: Vec<&str> = told.iter().map(|(_, c)| c.1).collect();
    let told_poison: Vec<Option<&str>> = told.iter().map(|(_, c)| c.2).collect();
    let conversation: [&(dyn ToSql + Sync); 4] = [&told_sessions, &told_agents, &told_status, &told_poison];
    let freed: Vec<Uuid> = ended.iter().map(|(session, _)| *session).collect();
    let freed: [&(dyn ToSql + Sync); 1] = [&freed];
    futures::try_join!(tx.execute(&conversations, &conversation), tx.execute(&settle, &freed))?;
    Ok(finishes
        .iter()
        .map(|f| match (ended.contains(&(f.session, f.fence)), held.contains(&(f.session, f.fence))) {
            (true, _) => Finished::Done,
            (false, true) => Finished::Busy,
            (false, false) => Finished::LostLease,
        })
        .collect())
}

/// Wakes who has something to gain from the ends: readers, and nodes with agents that this one lacks.
async fn hint(
    tx: &deadpool_postgres::Transaction<'_>,
    finishes: &[FinishRow],
    wish: &ClaimWish,
) -> Result<(), StoreError> {
    if finishes.is_empty() {
        return Ok(());
    }
    let hint = tx.prepare_cached(sql!("queue/hint_others")).await?;
    let readers = tx.prepare_cached(sql!("events/notify")).await?;
    let (freed, node) = (finishes.iter().map(|f| f.session).collect::<Vec<Uuid>>(), wish.node.to_string());
    let (for_nodes, for_readers): ([&(dyn ToSql + Sync); 2], [&(dyn ToSql + Sync); 1]) =
        ([&freed, &wish.agents], [&node]);
    futures::try_join!(tx.execute(&hint, &for_nodes), tx.execute(&readers, &for_readers))?;
    Ok(())
}

async fn claim(
    tx: &deadpool_postgres::Transaction<'_>,
    claim: &Statement,
    wish: &ClaimWish,
) -> Result<(Vec<ClaimedRow>, Vec<Uuid>), StoreError> {
    let rows = tx
        .query(claim, &[&wish.node, &wish.incarnation, &i64::from(wish.hands), &wish.agents, &LEASE_SECS])
        .await?;
    let (claimed, phantoms): (Vec<&Row>, Vec<&Row>) =
        rows.iter().partition(|row| row.get::<_, Option<Uuid>>("id").is_some());
    Ok((claimed.into_iter().map(claimed_row).collect(), phantoms.into_iter().map(|row| row.get(0)).collect()))
}

fn claimed_row(row: &Row) -> ClaimedRow {
    ClaimedRow {
        session: row.get("session_id"),
        task: row.get("id"),
        fence: row.get("fence"),
        workspace: row.get("workspace_id"),
        agent: row.get("agent"),
        prompt: row.get("prompt"),
        model: row.get("model"),
        mode_id: row.get("mode_id"),
        thinking_option_id: row.get("thinking_option_id"),
        feature_values: row.get("feature_values"),
        attempt: row.get("attempt"),
        failures: row.get("failures"),
        max_failures: row.get("max_failures"),
        last_seq: row.get("last_seq"),
        previous_fence: row.get("previous_fence"),
        cancel_requested: row.get("cancel_requested"),
    }
}
