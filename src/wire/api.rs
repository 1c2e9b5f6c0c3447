//! Requests and answers of `/api`, shared by the server and the command line.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

/// Every error answer (RFC 9457 shape): a stable `code`, and a `detail` that says what to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Problem {
    /// HTTP status.
    pub status: u16,
    /// Stable word (`not_found`, `invalid`, `conflict`, `unauthorized`, `unavailable`, `internal`, …).
    pub code: String,
    /// In words, for people.
    pub detail: String,
}

/// `POST /api/projects`: a local path or a clone URL.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewProject {
    /// Absolute path of a repository on the node that answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Clone URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Name; by default the last part of path or URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// A project.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ProjectView {
    /// Id.
    pub id: Uuid,
    /// Name.
    pub name: String,
    /// Local path.
    pub path: Option<String>,
    /// Clone URL.
    pub url: Option<String>,
}

/// `POST /api/sessions`: on a known project, or on a path or URL (the project is made when it is new).
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewSession {
    /// Known project.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project_id: Option<Uuid>,
    /// Path on the node that answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Clone URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Title.
    #[serde(default)]
    pub title: String,
    /// `allow`, `allow_reads`, `deny` or `ask`, whatever the agent's own policy is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permission: Option<String>,
    /// Agents whose first turn in it is expected: its worktree is made at once, and what they can do before a prompt is begun.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prepare: Vec<String>,
}

/// A session. `conversations` is filled by `GET /api/sessions/{id}` only.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SessionView {
    /// Id.
    pub id: Uuid,
    /// Project.
    pub project_id: Uuid,
    /// Its name.
    pub project: String,
    /// Title.
    pub title: String,
    /// `open` or `closed`.
    pub status: String,
    /// What holds in it when an agent asks; null leaves it to the agent's own policy.
    #[serde(default)]
    pub permission: Option<String>,
    /// Tasks that have not ended.
    pub open_tasks: i64,
    /// Where its worktree is.
    pub worktree: Option<String>,
    /// `<agent> <state>` of each conversation.
    pub agents: Vec<String>,
    /// Since when.
    pub created_at: DateTime<Utc>,
    /// When closed.
    pub closed_at: Option<DateTime<Utc>>,
    /// Conversations, in detail.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conversations: Vec<ConversationView>,
}

/// A conversation of a session.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ConversationView {
    /// Agent.
    pub agent: String,
    /// Backend.
    pub backend: String,
    /// The agent's own id.
    pub agent_session_id: Option<String>,
    /// Port of a shared server.
    pub server_port: Option<i32>,
    /// `idle`, `active`, `crashed`, `closed`.
    pub status: String,
    /// Why it is not resumed.
    pub poisoned_reason: Option<String>,
    /// Turns that reported usage.
    pub turns: i64,
    /// Tokens in.
    pub input_tokens: i64,
    /// Tokens out.
    pub output_tokens: i64,
    /// US dollars.
    pub cost_usd: f64,
    /// Last turn.
    pub last_active_at: Option<DateTime<Utc>>,
}

/// `POST /api/sessions/{id}/close`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CloseSession {
    /// Remove the worktree although it holds work that is nowhere else (a last checkpoint is kept).
    #[serde(default)]
    pub force: bool,
}

/// What closing came to. The session is closed in any case; its worktree is only removed when nothing would be lost.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ClosedView {
    /// The worktree is gone.
    pub worktree_removed: bool,
    /// Why it was kept, when it was.
    pub kept_because: Vec<String>,
    /// Where it is, when it was kept.
    pub worktree: Option<String>,
}

/// `POST /api/tasks`. Header `Idempotency-Key` makes a repeated submit one task.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewTask {
    /// Session.
    pub session_id: Uuid,
    /// Agent.
    pub agent: String,
    /// Prompt, at most 1 MiB.
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<i16>,
    /// Not before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_at: Option<DateTime<Utc>>,
    /// Charged failures after which it fails; 3 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_failures: Option<i32>,
}

/// A task. In lists prompt and output are cut to 200 characters.
#[derive(Clone, Debug, Serialize, Deserialize)]
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
}

/// Data of the terminal SSE event `end` of `GET /api/tasks/{id}/events`.
#[derive(Clone, Debug, Serialize, Deserialize)]
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

/// A permission request.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PermissionView {
    /// Id.
    pub id: Uuid,
    /// Session.
    pub session_id: Uuid,
    /// Task.
    pub task_id: Uuid,
    /// Agent.
    pub agent: String,
    /// `tool`, `question`, `plan`, `elicitation`.
    pub kind: String,
    /// A line for people.
    pub title: String,
    /// What the agent sent.
    pub payload: Value,
    /// `pending`, `answered`, `expired`, `cancelled`.
    pub status: String,
    /// The answer, as in `POST /api/permissions/{id}/answer` ([`super::permission::AnswerBody`]).
    pub answer: Option<Value>,
    /// `policy`, `deadline`, or who; of a cancelled one `turn_ended` or `node_lost`.
    pub answered_by: Option<String>,
    /// The request of an interrupted try, closed with it, that is made again by this one.
    #[serde(default)]
    pub repeats: Option<Uuid>,
    /// Until when.
    pub deadline: Option<DateTime<Utc>>,
    /// Since when.
    pub created_at: DateTime<Utc>,
}

/// A change.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ChangeView {
    /// Id.
    pub id: Uuid,
    /// Task; none when a person did it.
    pub task_id: Option<Uuid>,
    /// Agent name or `user`.
    pub agent: String,
    /// Path.
    pub path: String,
    /// Path before a rename.
    pub old_path: Option<String>,
    /// `create`, `modify`, `delete`, `rename`.
    pub operation: String,
    /// Git calls it binary.
    pub binary: bool,
    /// Unified diff.
    pub diff: Option<String>,
    /// Lines added.
    pub additions: i64,
    /// Lines removed.
    pub deletions: i64,
    /// `pending`, `applied`, `rejected`, `superseded`.
    pub status: String,
    /// When found.
    pub created_at: DateTime<Utc>,
}

/// `POST /api/sessions/{id}/changes/apply`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApplyChanges {
    /// Branch to make; by default `agentpool/<last 12 digits of the session id>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// Commit message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// What an apply came to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AppliedView {
    /// New branch in the user's repository.
    pub branch: String,
    /// Its commit.
    pub commit: String,
    /// What it stands on.
    pub onto: String,
    /// Changes marked as applied.
    pub changes: u64,
}

/// An agent, and how it stands on the node that answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AgentView {
    /// Name.
    pub name: String,
    /// `opencode_server`, `acp_warm`, `scripted`.
    pub backend: String,
    /// Default model.
    pub default_model: Option<String>,
    /// `cold`, `starting`, `up`, `down`, `circuit_open`, or `elsewhere` when this node does not run it.
    pub state: String,
    /// Version, port, last error.
    pub detail: String,
    /// Until then this node runs no turn of it: its provider's limit was reached.
    #[serde(default)]
    pub parked_until: Option<DateTime<Utc>>,
}
