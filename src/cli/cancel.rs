//! `agentpool cancel ID`. Asks; the node that runs the task stops it.

use super::client::{Client, ClientArgs};
use super::{CliError, Exit, output};
use crate::wire::api::TaskView;
use serde_json::json;
use uuid::Uuid;

/// Arguments of `cancel`.
#[derive(clap::Args, Debug)]
#[command(after_help = "A task that has ended cannot be cancelled: exit code 4.")]
pub(super) struct CancelArgs {
    /// Id of the task
    id: Uuid,
    /// The task as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientArgs,
}

pub(super) async fn run(args: CancelArgs) -> Result<Exit, CliError> {
    let client = Client::new(&args.client)?;
    let task: TaskView = client.post(&format!("/api/tasks/{}/cancel", args.id), &json!({})).await?;
    if args.json {
        output::json(&task)?;
    } else {
        output::line(&format!(
            "asked to cancel {}, which is {}",
            task.id,
            output::one_line(&task.status, 40)
        ))?;
    }
    Ok(Exit::Done)
}
