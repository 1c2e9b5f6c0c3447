//! One execution of a task: what the agent says while it runs, how it ends, and how it is stopped.

use super::agent::AgentName;
use super::failure::FailureReason;
use super::ids::{Fence, TaskId};
use super::permission::{PermissionDecision, PermissionRequest};
use super::task::TaskStatus;
use super::tool_output::LongOutput;
use super::usage::Usage;
use serde_json::Value;

/// Names one turn to a backend: the same (task, fence) is the same turn, for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TurnRef {
    /// The task.
    pub task: TaskId,
    /// The fence under which the turn runs.
    pub fence: Fence,
}

/// What an agent says during a turn. Closed: what we do not know becomes a [`TurnEvent::Notice`], never an error.
#[derive(Clone, Debug, PartialEq)]
pub enum TurnEvent {
    /// A piece of the answer.
    Text(String),
    /// A piece of the model's reasoning.
    Reasoning(String),
    /// A tool is called.
    ToolCall(ToolCall),
    /// A call announced before has moved on.
    ToolUpdate(ToolCall),
    /// The agent's plan, whole each time.
    Plan(Vec<PlanEntry>),
    /// Commands that the agent now offers.
    Commands(Vec<String>),
    /// The agent changed its own mode.
    ModeChanged(String),
    /// Tokens used since the last event of this kind.
    Usage(Usage),
    /// The agent asks a person.
    Permission(PermissionRequest),
    /// The agent waits for its provider and will try again.
    Retry {
        /// Count of tries so far.
        attempt: u32,
        /// What the provider said.
        message: String,
    },
    /// A word from us to the reader: something was dropped, unknown, told again, …
    Notice(String),
}

/// Where a tool call stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToolStatus {
    /// Announced.
    Pending,
    /// At work.
    Running,
    /// Done.
    Completed,
    /// Failed or refused.
    Failed,
}

impl ToolStatus {
    /// The word in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Failed => "failed",
        }
    }
}

/// A tool call as known at the moment of the event.
#[derive(Clone, Debug, PartialEq)]
pub struct ToolCall {
    /// The agent's id of the call; the same over all its updates.
    pub call_id: String,
    /// Tool name (`bash`, `write`, …).
    pub tool: String,
    /// Where it stands.
    pub status: ToolStatus,
    /// A line for people.
    pub title: Option<String>,
    /// Arguments, when known.
    pub input: Option<Value>,
    /// Result or error text, when known.
    pub output: Option<String>,
    /// Files that it touches, as `path` or `path:line`.
    pub locations: Vec<String>,
    /// What it changes, where the agent says so.
    pub diffs: Vec<ToolDiff>,
}

/// One file as a tool changes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolDiff {
    /// Which.
    pub path: String,
    /// Before; none for a new one.
    pub old: Option<String>,
    /// After.
    pub new: String,
}

/// One line of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanEntry {
    /// What is to be done.
    pub content: String,
    /// The agent's word for where it stands.
    pub status: String,
}

/// What the event log holds.
#[derive(Clone, Debug)]
pub enum LoggedEvent {
    /// What the agent said.
    Agent(TurnEvent),
    /// The same of a tool call whose output is longer than a row should be: what was said has a preview of it.
    LongOutput {
        /// The call.
        said: TurnEvent,
        /// Its output.
        output: LongOutput,
    },
    /// A turn begins.
    TurnStarted {
        /// Which execution.
        attempt: i32,
        /// Who.
        agent: AgentName,
        /// How the conversation came to be.
        origin: &'static str,
    },
    /// A question that waited for a person waits no longer.
    PermissionResolved {
        /// The agent's own id of it.
        request: String,
        /// What holds.
        decision: PermissionDecision,
        /// Nobody answered in time: the default holds.
        expired: bool,
    },
    /// A turn ended. The task's row has the last word.
    TurnEnded {
        /// `completed`, `cancelled`, `failed` or `queued`.
        outcome: TaskStatus,
        /// Why.
        reason: Option<FailureReason>,
    },
}

/// How a turn ended, when nothing failed.
#[derive(Clone, Debug, PartialEq)]
pub enum TurnEnd {
    /// The agent finished.
    Completed {
        /// The agent's own word (`stop`, `end_turn`, `length`, …).
        stop_reason: String,
        /// Sum over the turn.
        usage: Usage,
    },
    /// The agent confirmed that it stopped because we asked.
    Cancelled,
    /// The agent declined the prompt.
    Refused,
}

/// Why a turn is stopped. Ordered: the first one wins, except that [`StopCause::LeaseLost`] beats all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopCause {
    /// Somebody asked to cancel the task.
    UserCancel,
    /// The turn ran into a limit of its own.
    Timeout,
    /// Nothing was heard of the agent for too long.
    Stalled,
    /// The node is going down.
    Drain,
    /// Another may hold the lane now: stop quietly and write nothing.
    LeaseLost,
}

/// How hard a turn is stopped; only rises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StopForce {
    /// The agent is asked (abort, `session/cancel`).
    Ask,
    /// Its process is told to end.
    Terminate,
    /// Its process is killed.
    Kill,
}

/// A request to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stop {
    /// Why.
    pub cause: StopCause,
    /// How hard.
    pub force: StopForce,
}

impl Stop {
    /// Folds a new request into the one that stands: the first cause wins unless the lease is lost; force only rises.
    pub fn merge(standing: Option<Self>, new: Self) -> Self {
        match standing {
            None => new,
            Some(old) => Self {
                cause: if new.cause == StopCause::LeaseLost { new.cause } else { old.cause },
                force: old.force.max(new.force),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_cause_wins_but_a_lost_lease_beats_all() {
        let ask = |cause| Stop { cause, force: StopForce::Ask };
        let kill = |cause| Stop { cause, force: StopForce::Kill };
        let first = Stop::merge(None, ask(StopCause::UserCancel));
        let second = Stop::merge(Some(first), kill(StopCause::Drain));
        assert_eq!(second, kill(StopCause::UserCancel));
        let third = Stop::merge(Some(second), ask(StopCause::LeaseLost));
        assert_eq!(third, kill(StopCause::LeaseLost));
        assert_eq!(Stop::merge(Some(third), ask(StopCause::UserCancel)), third);
    }
}
