//! Projects and sessions: made, listed, closed.

use super::{Store, StoreError, sql, when_busy_again};
use chrono::{DateTime, Utc};
use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

/// The tenant that exists from the start.
pub const DEFAULT_WORKSPACE: Uuid = Uuid::from_u128(0x0000_0000_0000_7000_8000_0000_0000_0001);

/// A project.
#[derive(Clone, Debug)]
pub struct ProjectRow {
    /// Id.
    pub id: Uuid,
    /// Name.
    pub name: String,
    /// Local path.
    pub path: Option<String>,
    /// Clone URL.
    pub url: Option<String>,
    /// Node of a local path.
    pub node: Option<Uuid>,
}

/// A session in a list.
#[derive(Clone, Debug)]
pub struct SessionRow {
    /// Id.
    pub id: Uuid,
    /// Tenant.
    pub workspace: Uuid,
    /// Project.
    pub project: Uuid,
    /// Its name.
    pub project_name: String,
    /// Title.
    pub title: String,
    /// `open` or `closed`.
    pub status: String,
    /// Its own answer to what agents ask.
    pub permission_policy: Option<String>,
    /// Tasks that have not ended.
    pub open_tasks: i64,
    /// Where its worktree is, when there is one.
    pub worktree: Option<String>,
    /// Each conversation with its state.
    pub agents: Vec<String>,
    /// Since when.
    pub created_at: DateTime<Utc>,
    /// When closed.
    pub closed_at: Option<DateTime<Utc>>,
}

/// What a listing is to hold; `None` leaves all in.
#[derive(Clone, Debug, Default)]
pub struct SessionFilter {
    /// `open` or `closed`.
    pub status: Option<String>,
    /// On that project.
    pub project: Option<Uuid>,
    /// Older than that session.
    pub before: Option<Uuid>,
    /// Of that tenant.
    pub workspace: Option<Uuid>,
}

/// One session with what is needed to work on its tree.
#[derive(Clone, Debug)]
pub struct SessionDetail {
    /// As in a list.
    pub row: SessionRow,
    /// Local path of the project.
    pub project_path: Option<String>,
    /// Clone URL of the project.
    pub project_url: Option<String>,
    /// Node that holds the worktree.
    pub home: Option<Uuid>,
    /// Base of the worktree.
    pub base_commit: Option<String>,
    /// Newest checkpoint that is not an interrupted tree.
    pub last_checkpoint: Option<String>,
}

/// A conversation of a session.
#[derive(Clone, Debug)]
pub struct ConversationSummary {
    /// Agent.
    pub agent: String,
    /// Backend.
    pub backend: String,
    /// Agent's id.
    pub agent_session_id: Option<String>,
    /// Port.
    pub server_port: Option<i32>,
    /// State.
    pub status: String,
    /// Why it is not resumed.
    pub poisoned_reason: Option<String>,
    /// Turns with usage.
    pub turns: i64,
    /// Tokens in.
    pub input_tokens: i64,
    /// Tokens out.
    pub output_tokens: i64,
    /// Dollars.
    pub cost_usd: f64,
    /// Last turn.
    pub last_active_at: Option<DateTime<Utc>>,
}

/// A conversation that ended with its session; its agent may not know yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndedConversation {
    /// Agent.
    pub agent: String,
    /// Backend.
    pub backend: String,
    /// Agent's id.
    pub agent_session_id: Option<String>,
    /// Node whose agent has it.
    pub node: Option<Uuid>,
}

/// What closing a session came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Closed {
    /// It is closed now; these conversations ended with it.
    Done(Vec<EndedConversation>),
    /// It was closed before, or does not exist.
    NotOpen,
    /// A turn runs in it.
    Busy,
}

impl Store {
    /// The project of a path or URL, made when it is new.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn ensure_project(
        &self,
        workspace: Uuid,
        name: &str,
        path: Option<&str>,
        url: Option<&str>,
        node: Option<Uuid>,
    ) -> Result<Uuid, StoreError> {
        let client = self.engine().await?;
        let row = client.query_one(sql!("projects/ensure"), &[&workspace, &name, &path, &url, &node]).await?;
        Ok(row.get(0))
    }

    /// The projects of a workspace, or all.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn projects(&self, workspace: Option<Uuid>) -> Result<Vec<ProjectRow>, StoreError> {
        let client = self.reads().await?;
        let rows = client.query_typed(sql!("projects/list"), &[(&workspace, Type::UUID)]).await?;
        Ok(rows
            .iter()
            .map(|row| ProjectRow {
                id: row.get(0),
                name: row.get(1),
                path: row.get(2),
                url: row.get(3),
                node: row.get(4),
            })
            .collect())
    }

    /// A new session.
    ///
    /// # Errors
    /// [`StoreError::Refused`] for an unknown project.
    pub async fn create_session(
        &self,
        project: Uuid,
        title: &str,
        permission: Option<&str>,
    ) -> Result<Uuid, StoreError> {
        let client = self.engine().await?;
        let row = client.query_one(sql!("sessions/insert"), &[&project, &title, &permission]).await?;
        Ok(row.get(0))
    }

    /// Remembers a worktree that was made with its session. False: the session was closed meanwhile, or a turn was faster.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn worktree_ahead(
        &self,
        session: Uuid,
        node: Uuid,
        path: &str,
        base_commit: &str,
        branch: &str,
    ) -> Result<bool, StoreError> {
        let client = self.engine().await?;
        let params: [&(dyn tokio_postgres::types::ToSql + Sync); 5] =
            [&session, &node, &path, &base_commit, &branch];
        Ok(client.query_opt(sql!("sessions/worktree_ahead"), &params).await?.is_some())
    }

    /// Sessions, newest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn sessions(&self, filter: &SessionFilter, limit: i64) -> Result<Vec<SessionRow>, StoreError> {
        let client = self.reads().await?;
        let rows = client
            .query_typed(
                sql!("sessions/list"),
                &[
                    (&filter.status, Type::TEXT),
                    (&filter.project, Type::UUID),
                    (&filter.before, Type::UUID),
                    (&filter.workspace, Type::UUID),
                    (&limit, Type::INT8),
                ],
            )
            .await?;
        Ok(rows.iter().map(session_row).collect())
    }

    /// One session.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn session(&self, id: Uuid) -> Result<Option<SessionDetail>, StoreError> {
        let client = self.reads().await?;
        let rows = client.query_typed(sql!("sessions/get"), &[(&id, Type::UUID)]).await?;
        Ok(rows.first().map(|row| SessionDetail {
            row: session_row(row),
            project_path: row.get("path"),
            project_url: row.get("url"),
            home: row.get("home_node"),
            base_commit: row.get("base_commit"),
            last_checkpoint: row.get("last_checkpoint"),
        }))
    }

    /// Its tenant, and `open` or `closed`; `None` for no such session.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn session_status(&self, id: Uuid) -> Result<Option<(Uuid, String)>, StoreError> {
        let client = self.reads().await?;
        let rows = client.query_typed(sql!("sessions/status"), &[(&id, Type::UUID)]).await?;
        Ok(rows.first().map(|row| (row.get(0), row.get(1))))
    }

    /// The conversations of a session.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn conversations(&self, session: Uuid) -> Result<Vec<ConversationSummary>, StoreError> {
        let client = self.reads().await?;
        let rows = client.query_typed(sql!("sessions/conversations"), &[(&session, Type::UUID)]).await?;
        Ok(rows.iter().map(conversation).collect())
    }

    /// Closes a session unless a turn runs in it. What is queued ends as cancelled by the next admission.
    ///
    /// # Errors
    /// [`StoreError`]; nothing is half-done.
    pub async fn close_session(&self, id: Uuid) -> Result<Closed, StoreError> {
        when_busy_again(async || {
            let mut client = self.engine().await?;
            let tx = client.transaction().await?;
            let one = vec![id];
            tx.execute(sql!("queue/ensure_lanes"), &[&one]).await?;
            tx.execute(sql!("queue/lock_lanes"), &[&one]).await?;
            if tx.query_opt(sql!("sessions/busy"), &[&id]).await?.is_some_and(|row| row.get(0)) {
                return Ok(Closed::Busy);
            }
            if tx.query_opt(sql!("sessions/close"), &[&id]).await?.is_none() {
                return Ok(Closed::NotOpen);
            }
            let ended = tx.query(sql!("sessions/close_conversations"), &[&id]).await?;
            tx.execute(sql!("sessions/cancel_queued"), &[&id]).await?;
            tx.commit().await?;
            Ok(Closed::Done(ended.iter().map(ended_conversation).collect()))
        })
        .await
    }

    /// The conversations that ended when a session was closed.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn closed_conversations(&self, session: Uuid) -> Result<Vec<EndedConversation>, StoreError> {
        let client = self.engine().await?;
        let rows = client.query(sql!("sessions/closed_conversations"), &[&session]).await?;
        Ok(rows.iter().map(ended_conversation).collect())
    }

    /// The worktree was taken away; its row stays.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn worktree_removed(&self, session: Uuid, node: Uuid) -> Result<(), StoreError> {
        let client = self.engine().await?;
        client.execute(sql!("sessions/worktree_removed"), &[&session, &node]).await?;
        Ok(())
    }
}

fn session_row(row: &Row) -> SessionRow {
    SessionRow {
        id: row.get("id"),
        workspace: row.get("workspace_id"),
        project: row.get("project_id"),
        project_name: row.get("project"),
        title: row.get("title"),
        status: row.get("status"),
        permission_policy: row.get("permission_policy"),
        open_tasks: row.get("open_tasks"),
        worktree: row.get("worktree"),
        agents: row.get("agents"),
        created_at: row.get("created_at"),
        closed_at: row.get("closed_at"),
    }
}

fn conversation(row: &Row) -> ConversationSummary {
    ConversationSummary {
        agent: row.get("agent"),
        backend: row.get("backend"),
        agent_session_id: row.get("agent_session_id"),
        server_port: row.get("server_port"),
        status: row.get("status"),
        poisoned_reason: row.get("poisoned_reason"),
        turns: row.get("turns"),
        input_tokens: row.get("input_tokens"),
        output_tokens: row.get("output_tokens"),
        cost_usd: row.get("cost_usd"),
        last_active_at: row.get("last_active_at"),
    }
}

fn ended_conversation(row: &Row) -> EndedConversation {
    EndedConversation {
        agent: row.get("agent"),
        backend: row.get("backend"),
        agent_session_id: row.get("agent_session_id"),
        node: row.get("node_id"),
    }
}
