//! Requests and answers of `/api`, shared by the server and the command line.

mod agent;
mod change;
mod checkpoint;
mod permission;
mod permission_rule;
mod problem;
mod project;
mod session;
mod task;
mod token;
mod usage;

pub use agent::AgentView;
pub use change::{
    AppliedView, ApplyChanges, ChangeView, ContributionView, FileView, LineView, RejectChanges, RejectedView,
};
pub use checkpoint::CheckpointView;
pub use permission::PermissionView;
pub use permission_rule::{NewPermissionRule, PermissionRuleView};
pub use problem::Problem;
pub use project::{NewProject, NewWorkspace, ProjectView, WorkspaceView};
pub use session::{CloseSession, ClosedView, ConversationView, NewSession, SessionView};
pub use task::{AttemptView, BatchView, NewTask, NewTasks, StreamEnd, TaskView, WaitView};
pub use token::{NewToken, NewTokenView, TokenView};
pub use usage::UsageView;
