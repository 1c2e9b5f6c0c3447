//! `agentpool changes apply` and `reject`: what a person makes of a session's changes.

use super::super::client::{Client, ClientArgs};
use super::super::{CliError, Exit, output};
use crate::wire::api::{AppliedView, ApplyChanges, RejectChanges, RejectedView};
use uuid::Uuid;

/// Arguments of `changes apply`.
#[derive(clap::Args, Debug)]
pub(super) struct ApplyArgs {
    /// Id of the session
    session: Uuid,
    /// Only these files [default: all]
    files: Vec<String>,
    /// Name of the new branch [default: agentpool/ and the end of the session's id]
    #[arg(long)]
    branch: Option<String>,
    /// Commit message
    #[arg(long, short)]
    message: Option<String>,
    /// What it came to, as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientArgs,
}

/// Arguments of `changes reject`.
#[derive(clap::Args, Debug)]
pub(super) struct RejectArgs {
    /// Id of the session
    session: Uuid,
    /// These files
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    files: Vec<String>,
    /// All files
    #[arg(long)]
    all: bool,
    /// What it came to, as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientArgs,
}

pub(super) async fn apply(args: ApplyArgs) -> Result<Exit, CliError> {
    let client = Client::new(&args.client)?;
    let body = ApplyChanges { branch: args.branch, message: args.message, files: args.files };
    let path = format!("/api/sessions/{}/changes/apply", args.session);
    let applied: AppliedView = client.post(&path, &body).await?;
    if args.json {
        output::json(&applied)?;
        return Ok(Exit::Done);
    }
    output::details(&[
        ("branch", Some(applied.branch.clone())),
        ("commit", Some(applied.commit)),
        ("onto", Some(applied.onto)),
        ("changes", Some(applied.changes.to_string())),
    ])?;
    output::hint(&format!("bring it in with `git merge {}`", applied.branch));
    Ok(Exit::Done)
}

pub(super) async fn reject(args: RejectArgs) -> Result<Exit, CliError> {
    let client = Client::new(&args.client)?;
    let body = RejectChanges { files: args.files, all: args.all };
    let path = format!("/api/sessions/{}/changes/reject", args.session);
    let rejected: RejectedView = client.post(&path, &body).await?;
    if args.json {
        output::json(&rejected)?;
        return Ok(Exit::Done);
    }
    for file in &rejected.files {
        output::line(&output::one_line(file, usize::MAX))?;
    }
    let again = args.client.again();
    output::hint(&format!(
        "what was there is kept: `agentpool checkpoints {}{again}` lists the states to go back to",
        args.session
    ));
    Ok(Exit::Done)
}
