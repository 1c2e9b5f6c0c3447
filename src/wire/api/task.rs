//! `/api/tasks`.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

/// `POST /api/tasks`. Header `Idempotency-Key` makes a repeated submit one task.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewTask {
    /// Session.
    pub session_id: Uuid,
    /// Agent.
    #[schema(pattern = "^[a-z0-9][a-z0-9._-]{0,63}$")]
    pub agent: String,
    /// Prompt, at most 1 MiB.
    #[schema(min_length = 1, max_length = 1_048_576)]
    pub prompt: String,
    /// Wish: model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Wish: mode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode_id: Option<String>,
    /// Wish: level of thinking.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thinking_option_id: Option<String>,
    /// Wish: further options.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feature_values: Option<Value>,
    /// -100 to 100, higher first.
    #[schema(minimum = -100, maximum = 100)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<i16>,
    /// Not before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_at: Option<DateTime<Utc>>,
    /// Charged failures after which it fails; 3 by default.
    #[schema(minimum = 1, maximum = 100)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_failures: Option<i32>,
}

/// A task. In lists prompt and output are cut to 200 characters.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct TaskView {
    /// Id.
    pub id: Uuid,
    /// Session.
    pub session_id: Uuid,
    /// Agent.
    pub agent: String,
    /// Prompt.
    pub prompt: String,
    /// Model, as wished.
    pub model: Option<String>,
    /// Priority.
    pub priority: i16,
    /// Not before.
    pub run_at: Option<DateTime<Utc>>,
    /// `queued`, `dispatched`, `running`, `completed`, `failed`, `cancelled`.
    pub status: String,
    /// Executions so far.
    pub attempt: i32,
    /// Charged failures.
    pub failures: i32,
    /// How many are too many.
    pub max_failures: i32,
    /// When a cancel was asked.
    pub cancel_requested_at: Option<DateTime<Utc>>,
    /// The answer.
    pub output: Option<String>,
    /// Last error.
    pub error: Option<String>,
    /// Its reason.
    pub failure_reason: Option<String>,
    /// When enqueued.
    pub created_at: DateTime<Utc>,
    /// When first prompted.
    pub started_at: Option<DateTime<Utc>>,
    /// When ended.
    pub finished_at: Option<DateTime<Utc>>,
    /// The task that failed or was cancelled and that this one puts in again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_of: Option<Uuid>,
    /// Why it does not run yet; only of a queued one, and only in `GET /api/tasks/{id}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits: Option<WaitView>,
    /// Its executions, oldest first; only in `GET /api/tasks/{id}`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<AttemptView>,
}

/// Why a task waits, seen from the node that answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WaitView {
    /// `ending`, `scheduled`, `admission`, `lane_busy`, `paused`, `rate_limited`, `backing_off`, `waits_for_node`, `agent_elsewhere`,
    /// `agent_down` or `no_free_hand`.
    pub reason: String,
    /// When the reason ends, where that is known.
    pub until: Option<DateTime<Utc>>,
    /// In words, with what to do where something can be done.
    pub detail: String,
}

/// One execution of a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AttemptView {
    /// From 1; none when it ended before its agent was prompted.
    pub number: Option<i64>,
    /// When its agent was prompted.
    pub started_at: Option<DateTime<Utc>>,
    /// How its conversation came to be: `reused`, `resumed`, `new`, `new_instead_of_resumed`.
    pub conversation: Option<String>,
    /// When it ended; none while it runs, or when its node was lost.
    pub ended_at: Option<DateTime<Utc>>,
    /// The status that came of it: `queued` when it is tried again.
    pub outcome: Option<String>,
    /// Why it failed.
    pub reason: Option<String>,
    /// The lane's fence that it ran under; none when it ended before its agent was prompted.
    #[serde(default)]
    pub fence: Option<i64>,
    /// The node that ran it; none likewise.
    #[serde(default)]
    pub node_id: Option<Uuid>,
    /// The node's host, as it said at its newest start.
    #[serde(default)]
    pub node_name: Option<String>,
}

/// `POST /api/tasks/batch`: all of them or none, in this order.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewTasks {
    /// 1 to 1,000.
    #[schema(min_items = 1, max_items = 1000)]
    pub tasks: Vec<NewTask>,
}

/// What a batch came to.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct BatchView {
    /// Ids of the new tasks, in the order of the request.
    pub ids: Vec<Uuid>,
}

/// Data of the terminal SSE event `end` of `GET /api/tasks/{id}/events`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct StreamEnd {
    /// Final status.
    pub status: String,
    /// Why it failed.
    pub failure_reason: Option<String>,
    /// In words.
    pub error: Option<String>,
    /// Position after which nothing of the task follows.
    pub last_pos: i64,
}
