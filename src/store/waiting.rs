//! What the rows say of a task's past and of what it waits for. Decides nothing.

use super::{Store, StoreError, sql};
use crate::domain::ids::{NodeId, TaskId};
use crate::domain::waiting::{AgentHere, LaneStanding, Standing};
use chrono::{DateTime, Utc};
use serde_json::Value;
use tokio_postgres::types::Type;
use uuid::Uuid;

/// An event at which an attempt began or ended.
#[derive(Clone, Debug)]
pub struct AttemptEvent {
    /// `turn_started` or `turn_ended`.
    pub kind: String,
    /// Of an end: the status that came of it.
    pub content: Option<String>,
    /// Of a begin: number and conversation; of an end: the reason.
    pub input: Option<Value>,
    /// When.
    pub at: DateTime<Utc>,
    /// Of a begin: the lane's fence.
    pub fence: Option<i64>,
    /// Of a begin: the node.
    pub node: Option<Uuid>,
    /// Its host.
    pub node_name: Option<String>,
}

impl Store {
    /// How a queued task stands, seen from `node`, whose agent stands as `agent` says. `None` when it is not queued.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn standing(
        &self,
        task: Uuid,
        node: Uuid,
        agent: AgentHere,
    ) -> Result<Option<Standing>, StoreError> {
        let client = self.reads().await?;
        let rows =
            client.query_typed(sql!("tasks/standing"), &[(&task, Type::UUID), (&node, Type::UUID)]).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let lane = LaneStanding {
            head: row.get::<_, Option<Uuid>>("head_task").map(TaskId),
            leased: row.get("leased"),
            wake_at: row.get("wake_at"),
            paused: row.get("paused"),
            home: row.get::<_, Option<Uuid>>("home_node").map(NodeId),
            home_is_here: row.get("home_is_here"),
        };
        Ok(Some(Standing {
            task: TaskId(task),
            ending: row.get("ending"),
            run_at: row.get("run_at"),
            rate_limited: row.get("rate_limited"),
            admitted: row.get("admitted"),
            lane: row.get::<_, bool>("has_lane").then_some(lane),
            agent,
        }))
    }

    /// When each attempt of a task began, where, and how it ended, oldest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn attempt_events(&self, task: Uuid) -> Result<Vec<AttemptEvent>, StoreError> {
        let client = self.reads().await?;
        let rows = client.query_typed(sql!("tasks/attempts"), &[(&task, Type::UUID)]).await?;
        let event = |row: &tokio_postgres::Row| AttemptEvent {
            kind: row.get("type"),
            content: row.get("content"),
            input: row.get("input"),
            at: row.get("created_at"),
            fence: row.get("fence"),
            node: row.get("node_id"),
            node_name: row.get("node_name"),
        };
        Ok(rows.iter().map(event).collect())
    }
}
