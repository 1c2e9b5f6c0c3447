//! `agentpool task ID`: one task in full. Shows, changes nothing.

use super::client::{Client, ClientArgs};
use super::{CliError, Exit, output};
use crate::domain::text::for_terminal;
use crate::wire::api::TaskView;
use uuid::Uuid;

/// Arguments of `task`.
#[derive(clap::Args, Debug)]
pub(super) struct TaskArgs {
    /// Id of the task
    id: Uuid,
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientArgs,
}

pub(super) async fn run(args: TaskArgs) -> Result<Exit, CliError> {
    let task: TaskView = Client::new(&args.client)?.get(&format!("/api/tasks/{}", args.id)).await?;
    if args.json {
        output::json(&task)?;
    } else {
        show(&task)?;
    }
    Ok(Exit::Done)
}

/// Head, prompt and answer.
pub(super) fn show(task: &TaskView) -> Result<(), CliError> {
    let tries = (task.attempt > 1 || task.failures > 0)
        .then(|| format!("{} (failures {} of {})", task.attempt, task.failures, task.max_failures));
    output::details(&[
        ("task", Some(task.id.to_string())),
        ("session", Some(task.session_id.to_string())),
        ("agent", Some(task.agent.clone())),
        ("model", task.model.clone()),
        ("status", Some(task.status.clone())),
        ("reason", task.failure_reason.clone()),
        ("error", task.error.clone()),
        ("attempts", tries),
        ("priority", (task.priority != 0).then(|| task.priority.to_string())),
        ("created", Some(output::moment(task.created_at))),
        ("not before", task.run_at.map(output::moment)),
        ("started", task.started_at.map(output::moment)),
        ("cancel asked", task.cancel_requested_at.map(output::moment)),
        ("ended", task.finished_at.map(output::moment)),
    ])?;
    section("prompt", &task.prompt)?;
    task.output.as_deref().map_or(Ok(()), |text| section("output", text))
}

fn section(title: &str, text: &str) -> Result<(), CliError> {
    use output::BOLD;
    output::line(&format!("\n{BOLD}{title}{BOLD:#}\n{}", for_terminal(text).trim_end()))
}
