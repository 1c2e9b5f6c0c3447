//! `agentpool tasks`: the listing. Shows, changes nothing.

use super::client::{Client, ClientArgs};
use super::{CliError, Exit, output};
use crate::domain::task::TaskStatus;
use crate::wire::api::TaskView;
use chrono::Utc;
use clap::builder::PossibleValuesParser;
use uuid::Uuid;

/// Arguments of `tasks`.
#[derive(clap::Args, Debug)]
pub(super) struct TasksArgs {
    /// Only of this session
    #[arg(long, value_name = "ID")]
    session: Option<Uuid>,
    /// Only with this status
    #[arg(long, value_parser = PossibleValuesParser::new(TaskStatus::ALL.map(TaskStatus::as_str)))]
    status: Option<String>,
    /// How many at most [default: 50]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=500))]
    limit: Option<u32>,
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientArgs,
}

pub(super) async fn run(args: TasksArgs) -> Result<Exit, CliError> {
    let query = [
        ("session", args.session.map(|id| id.to_string())),
        ("status", args.status),
        ("limit", args.limit.map(|limit| limit.to_string())),
    ];
    let tasks: Vec<TaskView> = Client::new(&args.client)?.get_with("/api/tasks", &query).await?;
    if args.json {
        output::json(&tasks)?;
    } else {
        let now = Utc::now();
        let rows = tasks.into_iter().map(|task| row(task, now)).collect();
        output::table("no tasks", &["TASK", "STATUS", "AGENT", "AGE", "SESSION", "PROMPT"], rows)?;
    }
    Ok(Exit::Done)
}

fn row(task: TaskView, now: chrono::DateTime<Utc>) -> Vec<String> {
    let stopping = task.cancel_requested_at.is_some() && task.finished_at.is_none();
    let status = if stopping { format!("{}, cancelling", task.status) } else { task.status };
    let age = output::age(task.created_at, now);
    vec![task.id.to_string(), status, task.agent, age, task.session_id.to_string(), task.prompt]
}
