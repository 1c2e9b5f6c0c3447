//! The event log: appends under fences, reads by position. Knows nothing of what an event means.

use super::{Store, StoreError, sql, when_busy_again};
use crate::store::queue::LEASE_SECS;
use chrono::{DateTime, Utc};
use serde_json::Value;
use std::sync::Arc;
use tokio::sync::broadcast;
use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};
use uuid::Uuid;

/// One row to be stored.
#[derive(Clone, Debug)]
pub struct NewEvent {
    /// Number within the task; contiguous.
    pub seq: i64,
    /// Kind of event.
    pub kind: &'static str,
    /// Tool name.
    pub tool: Option<String>,
    /// Text.
    pub content: Option<String>,
    /// JSON part.
    pub input: Option<Value>,
    /// Tool output, or a preview of it.
    pub output: Option<String>,
    /// Bytes of the whole output, where that is a preview.
    pub output_bytes: Option<i64>,
    /// The whole output, compressed, where it is kept.
    pub whole_output: Option<Arc<[u8]>>,
}

/// The tool output of one event.
#[derive(Clone, Debug)]
pub struct OutputRow {
    /// As its row has it.
    pub output: Option<String>,
    /// Bytes of the whole, where that is a preview.
    pub bytes: Option<i64>,
    /// The whole, compressed, where it is kept.
    pub whole: Option<Vec<u8>>,
}

/// The events of one turn.
#[derive(Clone, Debug)]
pub struct NewBatch {
    /// Lane.
    pub session: Uuid,
    /// Task.
    pub task: Uuid,
    /// Fence.
    pub fence: i64,
    /// Rows, in order of `seq`; never empty.
    pub events: Vec<NewEvent>,
}

/// What a batch came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// Stored, or stored before.
    Done,
    /// The numbers do not follow: this one was expected.
    Gap {
        /// Next number.
        expected: i64,
    },
    /// Another may hold the lane now.
    LostLease,
}

/// One stored event.
#[derive(Clone, Debug)]
pub struct EventRow {
    /// Task.
    pub task: Uuid,
    /// Number within the task.
    pub seq: i64,
    /// Session.
    pub session: Uuid,
    /// Position in the session's stream.
    pub pos: i64,
    /// Kind.
    pub kind: String,
    /// Tool.
    pub tool: Option<String>,
    /// Text.
    pub content: Option<String>,
    /// JSON part.
    pub input: Option<Value>,
    /// Tool output, or a preview of it.
    pub output: Option<String>,
    /// Bytes of the whole output, where that is a preview.
    pub output_bytes: Option<i64>,
    /// When stored.
    pub created_at: DateTime<Utc>,
}

impl Store {
    /// Appends batches of several turns in one statement and tells readers on every node.
    ///
    /// # Errors
    /// [`StoreError`]; then nothing was written, or the answer was lost: appending again is safe.
    pub async fn append(&self, batches: &[NewBatch], node: Uuid) -> Result<Vec<Appended>, StoreError> {
        let sessions: Vec<Uuid> = batches.iter().map(|b| b.session).collect();
        let fences: Vec<i64> = batches.iter().map(|b| b.fence).collect();
        let first: Vec<i64> = batches.iter().filter_map(|b| b.events.first()).map(|e| e.seq).collect();
        let last: Vec<i64> = batches.iter().filter_map(|b| b.events.last()).map(|e| e.seq).collect();
        let rows: Vec<(i64, &NewBatch, &NewEvent)> =
            (1..).zip(batches).flat_map(|(n, b)| b.events.iter().map(move |e| (n, b, e))).collect();
        let row_batch: Vec<i64> = rows.iter().map(|(n, _, _)| *n).collect();
        let row_task: Vec<Uuid> = rows.iter().map(|(_, b, _)| b.task).collect();
        let seq: Vec<i64> = rows.iter().map(|(_, _, e)| e.seq).collect();
        let kind: Vec<&str> = rows.iter().map(|(_, _, e)| e.kind).collect();
        let tool: Vec<Option<&str>> = rows.iter().map(|(_, _, e)| e.tool.as_deref()).collect();
        let content: Vec<Option<&str>> = rows.iter().map(|(_, _, e)| e.content.as_deref()).collect();
        let input: Vec<Option<&Value>> = rows.iter().map(|(_, _, e)| e.input.as_ref()).collect();
        let output: Vec<Option<&str>> = rows.iter().map(|(_, _, e)| e.output.as_deref()).collect();
        let output_bytes: Vec<Option<i64>> = rows.iter().map(|(_, _, e)| e.output_bytes).collect();
        let wholes = rows.iter().filter_map(|(n, b, e)| Some((*n, b.task, e, e.whole_output.as_deref()?)));
        let whole_batch: Vec<i64> = wholes.clone().map(|(n, ..)| n).collect();
        let whole_task: Vec<Uuid> = wholes.clone().map(|(_, task, ..)| task).collect();
        let whole_seq: Vec<i64> = wholes.clone().map(|(_, _, e, _)| e.seq).collect();
        let whole_bytes: Vec<Option<i64>> = wholes.clone().map(|(_, _, e, _)| e.output_bytes).collect();
        let whole_body: Vec<&[u8]> = wholes.map(|(.., body)| body).collect();
        let origin = node.to_string();
        let answered = when_busy_again(async || {
            let mut client = self.engine().await?;
            let tx = client.transaction().await?;
            let append = tx.prepare_cached(sql!("events/append")).await?;
            let notify = tx.prepare_cached(sql!("events/notify")).await?;
            let params: [&(dyn ToSql + Sync); 19] = [
                &sessions,
                &fences,
                &first,
                &last,
                &LEASE_SECS,
                &row_batch,
                &row_task,
                &seq,
                &kind,
                &tool,
                &content,
                &input,
                &output,
                &output_bytes,
                &whole_batch,
                &whole_task,
                &whole_seq,
                &whole_bytes,
                &whole_body,
            ];
            let from: [&(dyn ToSql + Sync); 1] = [&origin];
            let (answered, _) = futures::try_join!(tx.query(&append, &params), tx.execute(&notify, &from))?;
            tx.commit().await?;
            Ok(answered)
        })
        .await?;
        self.tell_appended(batches, &answered);
        Ok((1..).zip(batches).map(|(number, _)| outcome(&answered, number)).collect())
    }

    /// What this process appends from here on, a batch at a time, as it will be read: whoever follows sessions needs not ask for it.
    pub fn appended(&self) -> broadcast::Receiver<Arc<[EventRow]>> {
        self.appended_here().subscribe()
    }

    fn tell_appended(&self, batches: &[NewBatch], answered: &[Row]) {
        if self.appended_here().receiver_count() == 0 {
            return;
        }
        for row in answered.iter().filter(|row| row.get("taken")) {
            let number = usize::try_from(row.get::<_, i64>("batch") - 1).ok();
            let Some(batch) = number.and_then(|number| batches.get(number)) else { continue };
            let (last_pos, created_at): (i64, DateTime<Utc>) = (row.get("last_pos"), row.get("at"));
            let first = last_pos - batch.events.len() as i64 + 1;
            let event = |(pos, event): (i64, &NewEvent)| EventRow {
                task: batch.task,
                seq: event.seq,
                session: batch.session,
                pos,
                kind: event.kind.to_owned(),
                tool: event.tool.clone(),
                content: event.content.clone(),
                input: event.input.clone(),
                output: event.output.clone(),
                output_bytes: event.output_bytes,
                created_at,
            };
            // Nobody is there any more: no error.
            let _ = self.appended_here().send((first..).zip(&batch.events).map(event).collect());
        }
    }

    /// A page of a session's stream after a position.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn session_events(
        &self,
        session: Uuid,
        after: i64,
        limit: i64,
    ) -> Result<Vec<EventRow>, StoreError> {
        let client = self.reads().await?;
        let rows = client
            .query_typed(
                sql!("events/read_session"),
                &[(&session, Type::UUID), (&after, Type::INT8), (&limit, Type::INT8)],
            )
            .await?;
        Ok(rows.iter().map(event_row).collect())
    }

    /// A page of a task's events after a position of its session's stream.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn task_events(
        &self,
        task: Uuid,
        session: Uuid,
        after: i64,
        limit: i64,
    ) -> Result<Vec<EventRow>, StoreError> {
        let client = self.reads().await?;
        let rows = client
            .query_typed(
                sql!("events/read_task"),
                &[(&task, Type::UUID), (&session, Type::UUID), (&after, Type::INT8), (&limit, Type::INT8)],
            )
            .await?;
        Ok(rows.iter().map(event_row).collect())
    }

    /// The tool output of one event of a task. `None` when there is no such event.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn tool_output(&self, task: Uuid, seq: i64) -> Result<Option<OutputRow>, StoreError> {
        let client = self.reads().await?;
        let rows = client
            .query_typed(sql!("events/read_output"), &[(&task, Type::UUID), (&seq, Type::INT8)])
            .await?;
        Ok(rows.first().map(|row| OutputRow {
            output: row.get("output"),
            bytes: row.get("output_bytes"),
            whole: row.get("body"),
        }))
    }

    /// The last position of a session's stream, 0 when there is none.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn stream_end(&self, session: Uuid) -> Result<i64, StoreError> {
        let client = self.reads().await?;
        let rows = client.query_typed(sql!("events/cursor"), &[(&session, Type::UUID)]).await?;
        Ok(rows.first().map_or(0, |row| row.get(0)))
    }

    /// The database's epoch.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn epoch(&self) -> Result<String, StoreError> {
        let client = self.engine().await?;
        Ok(client.query_one(sql!("events/epoch"), &[]).await?.get(0))
    }

    /// Makes partitions ahead. Returns how many were missing.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn make_partitions(&self) -> Result<i32, StoreError> {
        let client = self.engine().await?;
        Ok(client.query_one(sql!("events/make_partitions"), &[]).await?.get(0))
    }
}

/// `batch` counts from 1.
fn outcome(answered: &[Row], batch: i64) -> Appended {
    let Some(row) = answered.iter().find(|row| row.get::<_, i64>("batch") == batch) else {
        return Appended::LostLease;
    };
    if row.get("taken") || row.get("known") {
        return Appended::Done;
    }
    Appended::Gap { expected: row.get::<_, i64>("last_seq") + 1 }
}

fn event_row(row: &Row) -> EventRow {
    EventRow {
        task: row.get("task_id"),
        seq: row.get("seq"),
        session: row.get("session_id"),
        pos: row.get("pos"),
        kind: row.get("type"),
        tool: row.get("tool"),
        content: row.get("content"),
        input: row.get("input"),
        output: row.get("output"),
        output_bytes: row.get("output_bytes"),
        created_at: row.get("created_at"),
    }
}
