//! What an executor reads before a turn and writes during and after it. Every write locks the lane under its fence first;
//! a lost lease writes nothing.

mod rows;

pub use rows::{BeginRow, ChangeRow, ConversationRow, PlaceRow, ResultRow, TurnFacts, UsageRow};

use super::{Store, StoreError, sql, when_busy_again};
use crate::domain::change::ChangeStatus;
use crate::domain::checkpoint::CheckpointKind;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Row, Statement};
use uuid::Uuid;

impl Store {
    /// What to know before a turn; `None` when the session does not exist.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn turn_facts(
        &self,
        session: Uuid,
        agent: &str,
        node: Uuid,
        task: Uuid,
    ) -> Result<Option<TurnFacts>, StoreError> {
        let client = self.engine().await?;
        let facts = client.prepare_cached(sql!("turns/facts")).await?;
        Ok(client.query_opt(&facts, &[&session, &agent, &node, &task]).await?.as_ref().map(turn_facts))
    }

    /// Remembers where a worktree is. False when the lease is lost.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn save_worktree(
        &self,
        held: (Uuid, i64),
        node: Uuid,
        place: &PlaceRow,
    ) -> Result<bool, StoreError> {
        when_busy_again(async || {
            let mut client = self.engine().await?;
            let tx = client.transaction().await?;
            if !hold(&tx, held).await? {
                return Ok(false);
            }
            let save = tx.prepare_cached(sql!("turns/save_worktree")).await?;
            tx.execute(&save, &[&held.0, &node, &place.path, &place.base_commit, &place.branch]).await?;
            tx.commit().await?;
            Ok(true)
        })
        .await
    }

    /// Keeps the tree of an interrupted turn, with what it had changed: superseded, since the next try begins without it. False
    /// when the lease is lost.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn save_interrupted(
        &self,
        held: (Uuid, i64),
        (task, agent): (Uuid, &str),
        (commit, changes): (&str, &[ChangeRow]),
        node: Uuid,
    ) -> Result<bool, StoreError> {
        when_busy_again(async || {
            let mut client = self.engine().await?;
            let tx = client.transaction().await?;
            if !hold(&tx, held).await? {
                return Ok(false);
            }
            let (session, kind) = (held.0, CheckpointKind::Interrupted);
            let interrupted = NewCheckpoint { session, node, kind, commit };
            let checkpoint = save_checkpoint(&tx, &interrupted, Some(task), None).await?;
            let state = HeldBy { checkpoint: Some(checkpoint), status: ChangeStatus::Superseded };
            save_changes(&tx, session, (Some(task), agent), changes, state).await?;
            tx.commit().await?;
            Ok(true)
        })
        .await
    }

    /// The task runs: status, checkpoint, conversation. False when the lease is lost.
    ///
    /// # Errors
    /// [`StoreError`]; nothing is half-written.
    pub async fn begin_turn(&self, begin: &BeginRow) -> Result<bool, StoreError> {
        when_busy_again(async || {
            let mut client = self.engine().await?;
            let tx = client.transaction().await?;
            let start = tx.prepare_cached(sql!("turns/start_task")).await?;
            let checkpoint = tx.prepare_cached(sql!("turns/save_checkpoint")).await?;
            let conversation = tx.prepare_cached(sql!("turns/save_agent_session")).await?;
            let hold = tx.prepare_cached(sql!("turns/hold")).await?;
            let c = &begin.conversation;
            let (task, fence) = (Some(begin.task), Some(begin.fence));
            let task_only: [&(dyn ToSql + Sync); 1] = [&begin.task];
            let before = CheckpointKind::Before.as_str();
            let saved: [&(dyn ToSql + Sync); 7] =
                [&begin.session, &task, &fence, &before, &begin.checkpoint, &begin.node, &None::<i64>];
            let active: [&(dyn ToSql + Sync); 8] = [
                &begin.session,
                &c.agent,
                &c.backend,
                &c.agent_session_id,
                &c.server_port,
                &c.status,
                &begin.node,
                &c.config_hash,
            ];
            // Sent in one go, the lock first: without the lease all of it is rolled back.
            let all = async {
                let all = futures::try_join!(
                    tx.execute(&start, &task_only),
                    tx.query_one(&checkpoint, &saved),
                    tx.execute(&conversation, &active),
                );
                all.map_err(StoreError::from)
            };
            let held = hold_by(&tx, &hold, (begin.session, begin.fence));
            let (held, (_, checkpoint, _)) = futures::try_join!(held, all)?;
            if !held {
                return Ok(false);
            }
            let (by_task, by) = &begin.found_by;
            save_changes(
                &tx,
                begin.session,
                (*by_task, by),
                &begin.found,
                HeldBy::pending(Some(checkpoint.get(0))),
            )
            .await?;
            tx.commit().await?;
            Ok(true)
        })
        .await
    }

    /// The last checkpoint of a closed session, before its worktree goes.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn save_final_checkpoint(
        &self,
        session: Uuid,
        commit: &str,
        node: Uuid,
    ) -> Result<(), StoreError> {
        let mut client = self.engine().await?;
        let tx = client.transaction().await?;
        let kind = CheckpointKind::Final;
        save_checkpoint(&tx, &NewCheckpoint { session, node, kind, commit }, None, None).await?;
        Ok(tx.commit().await?)
    }

    /// Stores what a turn leaves behind. False when the lease is lost.
    ///
    /// # Errors
    /// [`StoreError`]; nothing is half-written.
    pub async fn store_result(&self, result: &ResultRow) -> Result<bool, StoreError> {
        when_busy_again(async || {
            let mut client = self.engine().await?;
            let tx = client.transaction().await?;
            let output = tx.prepare_cached(sql!("turns/save_output")).await?;
            let checkpoint = tx.prepare_cached(sql!("turns/save_checkpoint")).await?;
            let usage = tx.prepare_cached(sql!("turns/save_usage")).await?;
            let hold = tx.prepare_cached(sql!("turns/hold")).await?;
            let save_output = async {
                let Some(text) = &result.output else { return Ok(0) };
                tx.execute(&output, &[&result.task, text]).await
            };
            let save_checkpoint = async {
                let Some(commit) = &result.checkpoint else { return Ok(None) };
                let (task, fence) = (Some(result.task), Some(result.fence));
                let after = CheckpointKind::After.as_str();
                let row: [&(dyn ToSql + Sync); 7] =
                    [&result.session, &task, &fence, &after, commit, &result.node, &None::<i64>];
                Ok(Some(tx.query_one(&checkpoint, &row).await?.get::<_, i64>(0)))
            };
            let save_usage = async {
                let Some(UsageRow { model, tokens: [input, written, reasoning, read, write], cost_usd }) =
                    &result.usage
                else {
                    return Ok(0);
                };
                let (task, fence, agent) = (&result.task, &result.fence, &result.agent);
                let row: [&(dyn ToSql + Sync); 11] = [
                    task,
                    fence,
                    agent,
                    model,
                    input,
                    written,
                    reasoning,
                    read,
                    write,
                    cost_usd,
                    &result.session,
                ];
                tx.execute(&usage, &row).await
            };
            // Sent in one go, the lock first: without the lease all of it is rolled back.
            let held = hold_by(&tx, &hold, (result.session, result.fence));
            let all = async {
                futures::try_join!(save_output, save_checkpoint, save_usage).map_err(StoreError::from)
            };
            let (held, (_, checkpoint, _)) = futures::try_join!(held, all)?;
            if !held {
                return Ok(false);
            }
            let by = (Some(result.task), result.agent.as_str());
            save_changes(&tx, result.session, by, &result.changes, HeldBy::pending(checkpoint)).await?;
            tx.commit().await?;
            Ok(true)
        })
        .await
    }

    /// The finished turns of a conversation, newest first: (prompt, output).
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn transcript(
        &self,
        session: Uuid,
        agent: &str,
        but: Uuid,
        limit: i64,
    ) -> Result<Vec<(String, String)>, StoreError> {
        let client = self.engine().await?;
        let transcript = client.prepare_cached(sql!("events/transcript")).await?;
        let rows = client.query(&transcript, &[&session, &agent, &but, &limit]).await?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
    }
}

/// Locks the lane of (session, fence); false when the lease is lost.
async fn hold(
    tx: &deadpool_postgres::Transaction<'_>,
    (session, fence): (Uuid, i64),
) -> Result<bool, StoreError> {
    let hold = tx.prepare_cached(sql!("turns/hold")).await?;
    hold_by(tx, &hold, (session, fence)).await
}

/// The same with a statement that is at hand, so that it is sent at once.
async fn hold_by(
    tx: &deadpool_postgres::Transaction<'_>,
    hold: &Statement,
    (session, fence): (Uuid, i64),
) -> Result<bool, StoreError> {
    Ok(tx.query_opt(hold, &[&session, &fence]).await?.is_some())
}

/// A checkpoint to be recorded.
pub(super) struct NewCheckpoint<'a> {
    pub(super) session: Uuid,
    pub(super) node: Uuid,
    pub(super) kind: CheckpointKind,
    pub(super) commit: &'a str,
}

/// Records a checkpoint, of a task's turn or a person's; its id.
pub(super) async fn save_checkpoint(
    tx: &deadpool_postgres::Transaction<'_>,
    new: &NewCheckpoint<'_>,
    task: Option<Uuid>,
    restores: Option<i64>,
) -> Result<i64, StoreError> {
    let save = tx.prepare_cached(sql!("turns/save_checkpoint")).await?;
    let row: [&(dyn ToSql + Sync); 7] =
        [&new.session, &task, &None::<i64>, &new.kind.as_str(), &new.commit, &new.node, &restores];
    Ok(tx.query_one(&save, &row).await?.get(0))
}

/// The state that holds changes, and how they stand in it.
#[derive(Clone, Copy)]
pub(super) struct HeldBy {
    checkpoint: Option<i64>,
    status: ChangeStatus,
}

impl HeldBy {
    /// They wait for review.
    pub(super) fn pending(checkpoint: Option<i64>) -> Self {
        Self { checkpoint, status: ChangeStatus::Pending }
    }
}

/// Stores what a turn (or `user`) changed, held by that checkpoint.
pub(super) async fn save_changes(
    tx: &deadpool_postgres::Transaction<'_>,
    session: Uuid,
    (task, agent): (Option<Uuid>, &str),
    changes: &[ChangeRow],
    held: HeldBy,
) -> Result<(), StoreError> {
    if changes.is_empty() {
        return Ok(());
    }
    fn column<'a, T>(changes: &'a [ChangeRow], field: impl Fn(&'a ChangeRow) -> T) -> Vec<T> {
        changes.iter().map(field).collect()
    }
    let save = tx.prepare_cached(sql!("turns/save_changes")).await?;
    tx.execute(
        &save,
        &[
            &session,
            &task,
            &agent,
            &column(changes, |c| c.path.as_str()),
            &column(changes, |c| c.old_path.as_deref()),
            &column(changes, |c| c.path_raw.as_deref()),
            &column(changes, |c| c.operation),
            &column(changes, |c| c.old_mode.as_deref()),
            &column(changes, |c| c.new_mode.as_deref()),
            &column(changes, |c| c.binary),
            &column(changes, |c| c.old_blob.as_deref()),
            &column(changes, |c| c.new_blob.as_deref()),
            &column(changes, |c| c.diff.as_deref()),
            &column(changes, |c| c.additions),
            &column(changes, |c| c.deletions),
            &held.checkpoint,
            &held.status.as_str(),
        ],
    )
    .await?;
    Ok(())
}

fn turn_facts(row: &Row) -> TurnFacts {
    TurnFacts {
        title: row.get("title"),
        session_status: row.get("session_status"),
        permission_policy: row.get("permission_policy"),
        path: row.get("path"),
        url: row.get("url"),
        agent_session_id: row.get("agent_session_id"),
        agent_session_status: row.get("agent_session_status"),
        backend: row.get("backend"),
        config_hash: row.get("config_hash"),
        poisoned_reason: row.get("poisoned_reason"),
        agent_session_node: row.get("agent_session_node"),
        base_commit: row.get("base_commit"),
        checkpoint_before: row.get("checkpoint_before"),
        last_checkpoint: row.get("last_checkpoint"),
        last_turn: row.get::<_, Option<Uuid>>("last_task").zip(row.get("last_agent")),
        earlier_fences: row.get("earlier_fences"),
    }
}
