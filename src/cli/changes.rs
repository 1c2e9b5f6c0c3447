//! `agentpool changes`: what a session did to its files, and the way of it into the user's repository.

use super::client::{Client, ClientArgs};
use super::{CliError, Exit, output};
use crate::domain::text::for_terminal;
use crate::wire::api::{AppliedView, ApplyChanges, ChangeView};
use clap::Subcommand;
use clap::builder::PossibleValuesParser;
use uuid::Uuid;

/// Arguments of `changes`.
#[derive(clap::Args, Debug)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "\
Examples:
  agentpool changes SESSION --diff
  agentpool changes apply SESSION --branch fix-tests    a new branch, your own files are not touched"
)]
pub(super) struct ChangesArgs {
    #[command(subcommand)]
    command: Option<ChangesCommand>,
    /// Id of the session
    #[arg(required = true)]
    session: Option<Uuid>,
    /// Only with this status
    #[arg(long, value_parser = PossibleValuesParser::new(["pending", "applied", "rejected", "superseded"]))]
    status: Option<String>,
    /// With the differences
    #[arg(long)]
    diff: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Subcommand, Debug)]
enum ChangesCommand {
    /// Put the session's changes on a new branch of your repository
    Apply(ApplyArgs),
}

#[derive(clap::Args, Debug)]
struct ApplyArgs {
    /// Id of the session
    session: Uuid,
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

pub(super) async fn run(args: ChangesArgs) -> Result<Exit, CliError> {
    match (args.command, args.session) {
        (Some(ChangesCommand::Apply(args)), _) => apply(args).await,
        (None, Some(session)) => {
            let query = [("status", args.status)];
            let changes: Vec<ChangeView> = Client::new(&args.client)?
                .get_with(&format!("/api/sessions/{session}/changes"), &query)
                .await?;
            if args.json {
                output::json(&changes)?;
            } else if args.diff {
                changes.iter().try_for_each(show_diff)?;
            } else {
                list(changes)?;
            }
            Ok(Exit::Done)
        }
        (None, None) => Err(CliError::Usage("name a session".to_owned())),
    }
}

fn list(changes: Vec<ChangeView>) -> Result<(), CliError> {
    let row = |change: ChangeView| {
        let path = match change.old_path {
            Some(old) => format!("{old} -> {}", change.path),
            None => change.path,
        };
        let lines = match change.binary {
            true => "binary".to_owned(),
            false => format!("+{} -{}", change.additions, change.deletions),
        };
        vec![change.status, change.operation, lines, change.agent, path]
    };
    let header = ["STATUS", "OPERATION", "LINES", "BY", "PATH"];
    output::table("no changes", &header, changes.into_iter().map(row).collect())
}

fn show_diff(change: &ChangeView) -> Result<(), CliError> {
    use output::{BOLD, CYAN, DIM, GREEN, RED};
    let path = output::one_line(&change.path, usize::MAX);
    let by = output::one_line(&change.agent, 64);
    output::line(&format!(
        "{BOLD}{} {path}{BOLD:#} {DIM}by {by}, {}{DIM:#}",
        change.operation, change.status
    ))?;
    let Some(diff) = &change.diff else {
        let why = if change.binary { "binary" } else { "too large to be shown here" };
        return output::line(&format!("{DIM}{why}{DIM:#}\n"));
    };
    for line in for_terminal(diff).lines() {
        let style = match line.as_bytes().first() {
            Some(b'+') => GREEN,
            Some(b'-') => RED,
            Some(b'@') => CYAN,
            _ => anstyle::Style::new(),
        };
        output::line(&format!("{style}{line}{style:#}"))?;
    }
    output::line("")
}

async fn apply(args: ApplyArgs) -> Result<Exit, CliError> {
    let client = Client::new(&args.client)?;
    let body = ApplyChanges { branch: args.branch, message: args.message };
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
