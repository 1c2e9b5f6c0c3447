//! `agentpool changes`: what a session did to its files, and the ways of it into the user's repository and back.

mod review;
mod take;

use super::client::{Client, ClientArgs};
use super::{CliError, Exit, output};
use crate::domain::change::ChangeStatus;
use crate::domain::text::for_terminal;
use crate::wire::api::ChangeView;
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
  agentpool changes SESSION --diff                      turn by turn
  agentpool changes files SESSION                       file by file, with who changed it
  agentpool changes diff SESSION | git apply            as one patch
  agentpool changes lines SESSION src/main.rs           who wrote which lines
  agentpool changes apply SESSION --branch fix-tests    a new branch, your own files are not touched
  agentpool changes reject SESSION src/main.rs          back to what it was"
)]
pub(super) struct ChangesArgs {
    #[command(subcommand)]
    command: Option<ChangesCommand>,
    /// Id of the session
    #[arg(required = true)]
    session: Option<Uuid>,
    /// Only with this status
    #[arg(long, value_parser = PossibleValuesParser::new(ChangeStatus::ALL.map(ChangeStatus::as_str)))]
    status: Option<String>,
    /// Only of this task
    #[arg(long, value_name = "ID")]
    task: Option<Uuid>,
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
    /// List the changed files, with who changed them
    Files(review::FilesArgs),
    /// Print what changed as one patch that `git apply` takes
    Diff(review::DiffArgs),
    /// Show who wrote which lines of a file
    Lines(review::LinesArgs),
    /// Put the session's changes on a new branch of your repository
    Apply(take::ApplyArgs),
    /// Take changed files back to what was last applied, or to where the session began
    Reject(take::RejectArgs),
}

pub(super) async fn run(args: ChangesArgs) -> Result<Exit, CliError> {
    match (args.command, args.session) {
        (Some(ChangesCommand::Files(args)), _) => review::files(args).await,
        (Some(ChangesCommand::Diff(args)), _) => review::diff(args).await,
        (Some(ChangesCommand::Lines(args)), _) => review::lines(args).await,
        (Some(ChangesCommand::Apply(args)), _) => take::apply(args).await,
        (Some(ChangesCommand::Reject(args)), _) => take::reject(args).await,
        (None, Some(session)) => {
            let changes = all(&Client::new(&args.client)?, session, args.task, args.status).await?;
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

/// Page after page.
async fn all(
    client: &Client,
    session: Uuid,
    task: Option<Uuid>,
    status: Option<String>,
) -> Result<Vec<ChangeView>, CliError> {
    let path = match task {
        Some(task) => format!("/api/tasks/{task}/changes"),
        None => format!("/api/sessions/{session}/changes"),
    };
    let mut all: Vec<ChangeView> = Vec::new();
    loop {
        let after = all.last().map(|change| change.id.to_string());
        let query = [("status", status.clone()), ("after", after), ("limit", Some("500".to_owned()))];
        let page: Vec<ChangeView> = client.get_with(&path, &query).await?;
        if page.is_empty() {
            return Ok(all);
        }
        all.extend(page);
    }
}

fn list(changes: Vec<ChangeView>) -> Result<(), CliError> {
    let row = |change: ChangeView| {
        let lines = lines_of(change.binary, change.additions, change.deletions);
        let path = path_of(change.path, change.old_path);
        vec![change.status, change.operation, lines, change.agent, path]
    };
    let header = ["STATUS", "OPERATION", "LINES", "BY", "PATH"];
    output::table("no changes", &header, changes.into_iter().map(row).collect())
}

fn path_of(path: String, old_path: Option<String>) -> String {
    match old_path {
        Some(old) => format!("{old} -> {path}"),
        None => path,
    }
}

fn lines_of(binary: bool, additions: i64, deletions: i64) -> String {
    if binary { "binary".to_owned() } else { format!("+{additions} -{deletions}") }
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
