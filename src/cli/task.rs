//! `agentpool task ID`: one task in full. `task explain` tells its story, `task retry` puts it in again,
//! `task output` prints what one of its tools said.

use super::client::{Client, ClientArgs};
use super::{CliError, Exit, output, task_explain};
use crate::domain::text::for_terminal;
use crate::wire::api::TaskView;
use uuid::Uuid;

/// Arguments of `task`.
#[derive(clap::Args, Debug)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(super) struct TaskArgs {
    #[command(subcommand)]
    command: Option<TaskCommand>,
    /// Id of the task
    id: Option<Uuid>,
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(clap::Subcommand, Debug)]
enum TaskCommand {
    /// Tell the story of a task: what it waited for, each attempt, what was said about it
    Explain(OneTask),
    /// Put a task that failed or was cancelled in again, as a new one
    Retry(OneTask),
    /// Print what a tool said, whole, where its event shows only the beginning and the end
    Output(OneOutput),
}

/// An event that is named.
#[derive(clap::Args, Debug)]
struct OneOutput {
    /// Id of the task
    id: Uuid,
    /// Number of the event within the task: `seq` in `tail --json`
    seq: i64,
    #[command(flatten)]
    client: ClientArgs,
}

/// A task that is named.
#[derive(clap::Args, Debug)]
pub(super) struct OneTask {
    /// Id of the task
    pub(super) id: Uuid,
    /// As JSON
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) client: ClientArgs,
}

pub(super) async fn run(args: TaskArgs) -> Result<Exit, CliError> {
    match args.command {
        Some(TaskCommand::Explain(args)) => return task_explain::run(args).await,
        Some(TaskCommand::Retry(args)) => return retry(args).await,
        Some(TaskCommand::Output(args)) => return print_output(args).await,
        None => {}
    }
    let id = args.id.ok_or_else(|| CliError::Usage("name a task: `agentpool task ID`".to_owned()))?;
    let task: TaskView = Client::new(&args.client)?.get(&format!("/api/tasks/{id}")).await?;
    if args.json {
        output::json(&task)?;
    } else {
        show(&task)?;
    }
    Ok(Exit::Done)
}

async fn retry(args: OneTask) -> Result<Exit, CliError> {
    let path = format!("/api/tasks/{}/retry", args.id);
    let again: TaskView = Client::new(&args.client)?.post(&path, &()).await?;
    if args.json {
        output::json(&again)?;
        return Ok(Exit::Done);
    }
    output::details(&[("task", Some(again.id.to_string()))])?;
    output::hint(&format!("follow it with `agentpool tail {}{}`", again.id, args.client.again()));
    Ok(Exit::Done)
}

/// As it is into a file or another program, harmless on a terminal.
async fn print_output(args: OneOutput) -> Result<Exit, CliError> {
    let path = format!("/api/tasks/{}/messages/{}/output", args.id, args.seq);
    Client::new(&args.client)?.copy_to_stdout(&path, &[]).await?;
    Ok(Exit::Done)
}

/// What it waits for, in one line.
pub(super) fn waits(task: &TaskView) -> Option<String> {
    let waits = task.waits.as_ref()?;
    let until = waits.until.map(|until| format!(" (until {})", output::moment(until))).unwrap_or_default();
    Some(format!("{}: {}{until}", waits.reason, waits.detail))
}

/// Head, prompt and answer.
pub(super) fn show(task: &TaskView) -> Result<(), CliError> {
    let tries = (task.attempt > 1 || task.failures > 0)
        .then(|| format!("{} (failures {} of {})", task.attempt, task.failures, task.max_failures));
    output::details(&[
        ("task", Some(task.id.to_string())),
        ("retry of", task.retry_of.map(|id| id.to_string())),
        ("session", Some(task.session_id.to_string())),
        ("agent", Some(task.agent.clone())),
        ("model", task.model.clone()),
        ("status", Some(task.status.clone())),
        ("waits", waits(task)),
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
