//! What an executor reads before a turn and writes during and after it. Every write locks the lane under its fence first;
//! a lost lease writes nothing.

use super::{Store, StoreError, sql, when_busy_again};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

/// What is known of a session and one of its conversations.
#[derive(Clone, Debug)]
pub struct TurnFacts {
    /// Title of the session.
    pub title: String,
    /// `open` or `closed`.
    pub session_status: String,
    /// Local path of the project.
    pub path: Option<String>,
    /// Clone URL of the project.
    pub url: Option<String>,
    /// Agent's id of the conversation.
    pub agent_session_id: Option<String>,
    /// State of the conversation.
    pub agent_session_status: Option<String>,
    /// Why the conversation must not be resumed.
    pub poisoned_reason: Option<String>,
    /// Node on which the conversation lives.
    pub agent_session_node: Option<Uuid>,
    /// Base of the session's worktree on this node.
    pub base_commit: Option<String>,
    /// Checkpoint taken on this node before the task's first turn.
    pub checkpoint_before: Option<String>,
    /// Newest checkpoint of the session on this node.
    pub last_checkpoint: Option<String>,
    /// Fences of the task's earlier turns that got as far as a checkpoint, newest first.
    pub earlier_fences: Vec<i64>,
}

/// A conversation's row.
#[derive(Clone, Debug)]
pub struct ConversationRow {
    /// Agent.
    pub agent: String,
    /// Backend kind.
    pub backend: &'static str,
    /// Agent's id.
    pub agent_session_id: String,
    /// Port of a shared server.
    pub server_port: Option<i32>,
    /// State.
    pub status: &'static str,
    /// Hash of the agent's configuration (without the port).
    pub config_hash: String,
}

/// What is written when a turn begins.
#[derive(Clone, Debug)]
pub struct BeginRow {
    /// Lane.
    pub session: Uuid,
    /// Fence.
    pub fence: i64,
    /// Task.
    pub task: Uuid,
    /// Node.
    pub node: Uuid,
    /// The checkpoint before the turn.
    pub checkpoint: String,
    /// The conversation, now active.
    pub conversation: ConversationRow,
}

/// One changed file.
#[derive(Clone, Debug)]
pub struct ChangeRow {
    /// Path.
    pub path: String,
    /// Path before a rename.
    pub old_path: Option<String>,
    /// Raw path when not UTF-8.
    pub path_raw: Option<Vec<u8>>,
    /// Operation.
    pub operation: &'static str,
    /// Mode before.
    pub old_mode: Option<String>,
    /// Mode after.
    pub new_mode: Option<String>,
    /// Binary.
    pub binary: bool,
    /// Blob before.
    pub old_blob: Option<String>,
    /// Blob after.
    pub new_blob: Option<String>,
    /// Unified diff.
    pub diff: Option<String>,
    /// Lines added.
    pub additions: i64,
    /// Lines removed.
    pub deletions: i64,
}

/// What a turn cost.
#[derive(Clone, Debug)]
pub struct UsageRow {
    /// Model as asked.
    pub model: String,
    /// Input, output, reasoning, cache read, cache write.
    pub tokens: [i64; 5],
    /// Dollars.
    pub cost_usd: f64,
}

/// What a turn leaves behind.
#[derive(Clone, Debug)]
pub struct ResultRow {
    /// Lane.
    pub session: Uuid,
    /// Fence.
    pub fence: i64,
    /// Task.
    pub task: Uuid,
    /// Node.
    pub node: Uuid,
    /// Agent, who did the changes.
    pub agent: String,
    /// The answer, when there is one.
    pub output: Option<String>,
    /// The checkpoint after the turn.
    pub checkpoint: Option<String>,
    /// What changed.
    pub changes: Vec<ChangeRow>,
    /// What it cost.
    pub usage: Option<UsageRow>,
}

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

    /// Remembers where a worktree is.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn save_worktree(
        &self,
        session: Uuid,
        node: Uuid,
        path: &str,
        base: &str,
        branch: &str,
    ) -> Result<(), StoreError> {
        let client = self.engine().await?;
        let save = client.prepare_cached(sql!("turns/save_worktree")).await?;
        client.execute(&save, &[&session, &node, &path, &base, &branch]).await?;
        Ok(())
    }

    /// The task runs: status, checkpoint, conversation. False when the lease is lost.
    ///
    /// # Errors
    /// [`StoreError`]; nothing is half-written.
    pub async fn begin_turn(&self, begin: &BeginRow) -> Result<bool, StoreError> {
        when_busy_again(async || {
            let mut client = self.engine().await?;
            let tx = client.transaction().await?;
            let hold = tx.prepare_cached(sql!("turns/hold")).await?;
            let start = tx.prepare_cached(sql!("turns/start_task")).await?;
            let checkpoint = tx.prepare_cached(sql!("turns/save_checkpoint")).await?;
            let conversation = tx.prepare_cached(sql!("turns/save_agent_session")).await?;
            if tx.query_opt(&hold, &[&begin.session, &begin.fence]).await?.is_none() {
                return Ok(false);
            }
            let c = &begin.conversation;
            let (task, fence) = (Some(begin.task), Some(begin.fence));
            let task_only: [&(dyn ToSql + Sync); 1] = [&begin.task];
            let saved: [&(dyn ToSql + Sync); 6] =
                [&begin.session, &task, &fence, &"before", &begin.checkpoint, &begin.node];
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
            futures::try_join!(
                tx.execute(&start, &task_only),
                tx.execute(&checkpoint, &saved),
                tx.execute(&conversation, &active),
            )?;
            tx.commit().await?;
            Ok(true)
        })
        .await
    }

    /// A checkpoint beside the usual two (an interrupted tree, the last one before a removal).
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn save_checkpoint(
        &self,
        session: Uuid,
        task: Option<Uuid>,
        kind: &'static str,
        commit: &str,
        node: Uuid,
    ) -> Result<(), StoreError> {
        let client = self.engine().await?;
        let save = client.prepare_cached(sql!("turns/save_checkpoint")).await?;
        client.execute(&save, &[&session, &task, &None::<i64>, &kind, &commit, &node]).await?;
        Ok(())
    }

    /// Stores what a turn leaves behind. False when the lease is lost.
    ///
    /// # Errors
    /// [`StoreError`]; nothing is half-written.
    pub async fn store_result(&self, result: &ResultRow) -> Result<bool, StoreError> {
        when_busy_again(async || {
            let mut client = self.engine().await?;
            let tx = client.transaction().await?;
            let hold = tx.prepare_cached(sql!("turns/hold")).await?;
            if tx.query_opt(&hold, &[&result.session, &result.fence]).await?.is_none() {
                return Ok(false);
            }
            if let Some(output) = &result.output {
                let save = tx.prepare_cached(sql!("turns/save_output")).await?;
                tx.execute(&save, &[&result.task, output]).await?;
            }
            if let Some(commit) = &result.checkpoint {
                let save = tx.prepare_cached(sql!("turns/save_checkpoint")).await?;
                let (task, fence) = (Some(result.task), Some(result.fence));
                tx.execute(&save, &[&result.session, &task, &fence, &"after", commit, &result.node]).await?;
            }
            if let Some(usage) = &result.usage {
                let save = tx.prepare_cached(sql!("turns/save_usage")).await?;
                let [input, output, reasoning, read, write] = usage.tokens;
                tx.execute(
                    &save,
                    &[
                        &result.task,
                        &result.fence,
                        &result.agent,
                        &usage.model,
                        &input,
                        &output,
                        &reasoning,
                        &read,
                        &write,
                        &usage.cost_usd,
                        &result.session,
                    ],
                )
                .await?;
            }
            save_changes(&tx, result.session, Some(result.task), &result.agent, &result.changes).await?;
            tx.commit().await?;
            Ok(true)
        })
        .await
    }

    /// What a person changed between two turns, under the fence of the turn that found it. False when the lease is lost.
    ///
    /// # Errors
    /// [`StoreError`]; nothing is half-written.
    pub async fn save_user_changes(
        &self,
        session: Uuid,
        fence: i64,
        changes: &[ChangeRow],
    ) -> Result<bool, StoreError> {
        when_busy_again(async || {
            let mut client = self.engine().await?;
            let tx = client.transaction().await?;
            let hold = tx.prepare_cached(sql!("turns/hold")).await?;
            if tx.query_opt(&hold, &[&session, &fence]).await?.is_none() {
                return Ok(false);
            }
            save_changes(&tx, session, None, "user", changes).await?;
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

async fn save_changes(
    tx: &deadpool_postgres::Transaction<'_>,
    session: Uuid,
    task: Option<Uuid>,
    agent: &str,
    changes: &[ChangeRow],
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
        ],
    )
    .await?;
    Ok(())
}

fn turn_facts(row: &Row) -> TurnFacts {
    TurnFacts {
        title: row.get("title"),
        session_status: row.get("session_status"),
        path: row.get("path"),
        url: row.get("url"),
        agent_session_id: row.get("agent_session_id"),
        agent_session_status: row.get("agent_session_status"),
        poisoned_reason: row.get("poisoned_reason"),
        agent_session_node: row.get("agent_session_node"),
        base_commit: row.get("base_commit"),
        checkpoint_before: row.get("checkpoint_before"),
        last_checkpoint: row.get("last_checkpoint"),
        earlier_fences: row.get("earlier_fences"),
    }
}
