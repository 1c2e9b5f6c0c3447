//! `agentpool checkpoints`: saved states of a session's worktree, and the way back to one.

use super::client::{Client, ClientArgs};
use super::{CliError, Exit, output};
use crate::wire::api::CheckpointView;
use chrono::Utc;
use clap::Subcommand;
use uuid::Uuid;

/// Arguments of `checkpoints`.
#[derive(clap::Args, Debug)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "\
Examples:
  agentpool checkpoints SESSION
  agentpool checkpoints restore SESSION 12    files, HEAD and index as they were then; the agent's conversation goes on"
)]
pub(super) struct CheckpointsArgs {
    #[command(subcommand)]
    command: Option<CheckpointsCommand>,
    /// Id of the session
    #[arg(required = true)]
    session: Option<Uuid>,
    /// How many at most [default: 50]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=500))]
    limit: Option<u32>,
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Subcommand, Debug)]
enum CheckpointsCommand {
    /// Take the worktree back to a checkpoint; what is there now is saved before
    Restore(RestoreArgs),
}

#[derive(clap::Args, Debug)]
struct RestoreArgs {
    /// Id of the session
    session: Uuid,
    /// Number of the checkpoint
    checkpoint: i64,
    /// What it came to, as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientArgs,
}

pub(super) async fn run(args: CheckpointsArgs) -> Result<Exit, CliError> {
    match (args.command, args.session) {
        (Some(CheckpointsCommand::Restore(args)), _) => restore(args).await,
        (None, Some(session)) => {
            let query = [("limit", args.limit.map(|limit| limit.to_string()))];
            let path = format!("/api/sessions/{session}/checkpoints");
            let checkpoints: Vec<CheckpointView> = Client::new(&args.client)?.get_with(&path, &query).await?;
            if args.json {
                output::json(&checkpoints)?;
            } else {
                list(checkpoints)?;
            }
            Ok(Exit::Done)
        }
        (None, None) => Err(CliError::Usage("name a session".to_owned())),
    }
}

fn list(checkpoints: Vec<CheckpointView>) -> Result<(), CliError> {
    let now = Utc::now();
    let row = |checkpoint: CheckpointView| {
        let kind = match checkpoint.restores {
            Some(restored) => format!("{} ({restored})", checkpoint.kind),
            None => checkpoint.kind,
        };
        vec![
            checkpoint.id.to_string(),
            kind,
            checkpoint.agent.unwrap_or_default(),
            output::age(checkpoint.created_at, now),
            checkpoint.task_id.map(|task| task.to_string()).unwrap_or_default(),
            checkpoint.commit.chars().take(12).collect(),
        ]
    };
    let header = ["CHECKPOINT", "KIND", "AGENT", "AGE", "TASK", "COMMIT"];
    output::table("no checkpoints", &header, checkpoints.into_iter().map(row).collect())
}

async fn restore(args: RestoreArgs) -> Result<Exit, CliError> {
    let path = format!("/api/sessions/{}/checkpoints/{}/restore", args.session, args.checkpoint);
    let restored: CheckpointView = Client::new(&args.client)?.post(&path, &serde_json::json!({})).await?;
    if args.json {
        output::json(&restored)?;
        return Ok(Exit::Done);
    }
    output::details(&[
        ("checkpoint", Some(restored.id.to_string())),
        ("kind", Some(restored.kind)),
        ("commit", Some(restored.commit)),
    ])?;
    Ok(Exit::Done)
}
