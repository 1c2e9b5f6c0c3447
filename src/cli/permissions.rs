//! `agentpool permissions`: what agents ask. Shows, answers nothing.

use super::client::{Client, ClientArgs};
use super::{CliError, Exit, output};
use crate::wire::api::PermissionView;
use chrono::Utc;

/// Arguments of `permissions`.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Answer with `agentpool permission answer ID allow|always|deny`, or `--answer TEXT` for a question."
)]
pub(super) struct PermissionsArgs {
    /// Also those that were answered or are over
    #[arg(long)]
    all: bool,
    /// As JSON, with all that the agent sent
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientArgs,
}

pub(super) async fn run(args: PermissionsArgs) -> Result<Exit, CliError> {
    let query = [("all", args.all.then(|| "true".to_owned()))];
    let asked: Vec<PermissionView> = Client::new(&args.client)?.get_with("/api/permissions", &query).await?;
    if args.json {
        output::json(&asked)?;
        return Ok(Exit::Done);
    }
    let now = Utc::now();
    let row = |asked: PermissionView| {
        let until = asked.deadline.filter(|_| asked.status == "pending");
        vec![
            asked.id.to_string(),
            asked.status,
            asked.kind,
            asked.agent,
            output::age(asked.created_at, now),
            until.map(|until| output::age(now, until)).unwrap_or_default(),
            asked.task_id.to_string(),
            if asked.repeats.is_some() { format!("{} (asked again)", asked.title) } else { asked.title },
        ]
    };
    let header = ["PERMISSION", "STATUS", "KIND", "AGENT", "AGE", "TIME LEFT", "TASK", "ASKS"];
    output::table("nobody asks anything", &header, asked.into_iter().map(row).collect())?;
    Ok(Exit::Done)
}
