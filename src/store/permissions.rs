//! Questions and answers as rows. Never decides what is allowed.

use super::{Store, StoreError, sql};
use chrono::{DateTime, Utc};
use serde_json::Value;
use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

/// A question to be stored.
#[derive(Clone, Debug)]
pub struct NewPermission {
    /// Lane.
    pub session: Uuid,
    /// Fence.
    pub fence: i64,
    /// Task.
    pub task: Uuid,
    /// Agent.
    pub agent: String,
    /// Agent's id of the request.
    pub agent_request_id: String,
    /// Kind.
    pub kind: &'static str,
    /// A line for people.
    pub title: String,
    /// What the agent sent.
    pub payload: Value,
    /// The answer that was there at once, if one was, and who gave it: `policy`, or a rule.
    pub answered: Option<(Value, String)>,
    /// Seconds that a person has.
    pub deadline_secs: Option<f64>,
}

/// A stored question.
#[derive(Clone, Debug)]
pub struct PermissionRow {
    /// Id.
    pub id: Uuid,
    /// Session.
    pub session: Uuid,
    /// Its tenant.
    pub workspace: Uuid,
    /// Task.
    pub task: Uuid,
    /// Agent.
    pub agent: String,
    /// Kind.
    pub kind: String,
    /// A line for people.
    pub title: String,
    /// What the agent sent.
    pub payload: Value,
    /// Status.
    pub status: String,
    /// Answer.
    pub answer: Option<Value>,
    /// Who answered, or what closed it.
    pub answered_by: Option<String>,
    /// The request of an interrupted try that this one makes again.
    pub repeats: Option<Uuid>,
    /// Until when.
    pub deadline: Option<DateTime<Utc>>,
    /// Since when.
    pub created_at: DateTime<Utc>,
}

/// How a node closes a question.
#[derive(Clone, Debug)]
pub struct Settlement {
    /// Answer.
    pub answer: Value,
    /// `expired` or `answered`.
    pub status: &'static str,
    /// `deadline`, or a rule.
    pub by: String,
}

/// What a question's row said when its node closed it.
#[derive(Clone, Debug)]
pub struct StandingRow {
    /// Status; `pending` means that it was closed with this very call.
    pub status: String,
    /// The answer that stood.
    pub answer: Option<Value>,
}

/// What a listing is to hold; `None` leaves all in.
#[derive(Clone, Debug, Default)]
pub struct PermissionFilter {
    /// Those that are answered, too.
    pub all: bool,
    /// Of that session.
    pub session: Option<Uuid>,
    /// Older than that request.
    pub before: Option<Uuid>,
    /// Of that tenant.
    pub workspace: Option<Uuid>,
}

impl Store {
    /// Stores a question under the fence; `None` when the lease is lost.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn ask_permission(&self, ask: &NewPermission) -> Result<Option<Uuid>, StoreError> {
        let client = self.engine().await?;
        let statement = client.prepare_cached(sql!("permissions/ask")).await?;
        let (answer, by) = ask.answered.as_ref().map(|(answer, by)| (answer, by)).unzip();
        let status = if answer.is_some() { "answered" } else { "pending" };
        let row = client
            .query_opt(
                &statement,
                &[
                    &ask.session,
                    &ask.fence,
                    &ask.task,
                    &ask.agent,
                    &ask.agent_request_id,
                    &ask.kind,
                    &ask.title,
                    &ask.payload,
                    &None::<Value>,
                    &status,
                    &answer,
                    &by,
                    &ask.deadline_secs,
                ],
            )
            .await?;
        Ok(row.map(|row| row.get(0)))
    }

    /// Answers that people gave to these turns: (task, agent's request id, answer). Each comes again for 30 s after the
    /// first time, since a reply may be lost.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn take_answers(
        &self,
        turns: &[(Uuid, i64)],
    ) -> Result<Vec<(Uuid, String, Value)>, StoreError> {
        let (tasks, fences) = turns.iter().copied().unzip::<_, _, Vec<Uuid>, Vec<i64>>();
        let client = self.renew_connection().await?;
        let answers = client.prepare_cached(sql!("permissions/answers")).await?;
        let rows = client.query(&answers, &[&tasks, &fences]).await?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect())
    }

    /// The deadline of a question passed, or a standing rule answers it: that is stored, unless something stands already.
    /// `None` when there is no such question. Repeating it after a lost reply is safe.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn settle_permission(
        &self,
        task: Uuid,
        fence: i64,
        request: &str,
        with: &Settlement,
    ) -> Result<Option<StandingRow>, StoreError> {
        let client = self.engine().await?;
        let settle = client.prepare_cached(sql!("permissions/settle")).await?;
        let params: [&(dyn tokio_postgres::types::ToSql + Sync); 6] =
            [&task, &fence, &request, &with.answer, &with.status, &with.by];
        let row = client.query_opt(&settle, &params).await?;
        Ok(row.map(|row| StandingRow { status: row.get("status"), answer: row.get("answer") }))
    }

    /// A person answers; false when it is no longer pending.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn answer_permission(&self, id: Uuid, answer: &Value, by: &str) -> Result<bool, StoreError> {
        let client = self.engine().await?;
        let statement = client.prepare_cached(sql!("permissions/answer")).await?;
        Ok(client.execute(&statement, &[&id, answer, &by]).await? > 0)
    }

    /// One request.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn permission(&self, id: Uuid) -> Result<Option<PermissionRow>, StoreError> {
        let client = self.reads().await?;
        let rows = client.query_typed(sql!("permissions/get"), &[(&id, Type::UUID)]).await?;
        Ok(rows.first().map(permission_row))
    }

    /// Requests, newest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn permissions(
        &self,
        filter: &PermissionFilter,
        limit: i64,
    ) -> Result<Vec<PermissionRow>, StoreError> {
        let client = self.reads().await?;
        let rows = client
            .query_typed(
                sql!("permissions/list"),
                &[
                    (&filter.all, Type::BOOL),
                    (&filter.session, Type::UUID),
                    (&filter.before, Type::UUID),
                    (&filter.workspace, Type::UUID),
                    (&limit, Type::INT8),
                ],
            )
            .await?;
        Ok(rows.iter().map(permission_row).collect())
    }
}

fn permission_row(row: &Row) -> PermissionRow {
    PermissionRow {
        id: row.get("id"),
        session: row.get("session_id"),
        workspace: row.get("workspace_id"),
        task: row.get("task_id"),
        agent: row.get("agent"),
        kind: row.get("kind"),
        title: row.get("title"),
        payload: row.get("payload"),
        status: row.get("status"),
        answer: row.get("answer"),
        answered_by: row.get("answered_by"),
        repeats: row.get("repeats"),
        deadline: row.get("deadline"),
        created_at: row.get("created_at"),
    }
}
