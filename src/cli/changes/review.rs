//! `agentpool changes files`, `diff` and `lines`: what a session has made of its files. Shows, changes nothing.

use super::super::client::{Client, ClientArgs};
use super::super::{CliError, Exit, output};
use super::{lines_of, path_of};
use crate::wire::api::{FileView, LineView};
use uuid::Uuid;

/// Arguments of `changes files`.
#[derive(clap::Args, Debug)]
pub(super) struct FilesArgs {
    /// Id of the session
    session: Uuid,
    /// Only what is left to be applied or rejected
    #[arg(long)]
    left: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientArgs,
}

/// Arguments of `changes diff`.
#[derive(clap::Args, Debug)]
pub(super) struct DiffArgs {
    /// Id of the session
    #[arg(required_unless_present = "task")]
    session: Option<Uuid>,
    /// Only this file
    file: Option<String>,
    /// Of one task instead of a session
    #[arg(long, value_name = "ID", conflicts_with = "session")]
    task: Option<Uuid>,
    /// Only what is left to be applied or rejected
    #[arg(long, conflicts_with = "task")]
    left: bool,
    #[command(flatten)]
    client: ClientArgs,
}

/// Arguments of `changes lines`.
#[derive(clap::Args, Debug)]
pub(super) struct LinesArgs {
    /// Id of the session
    session: Uuid,
    /// The file, by its newest name
    file: String,
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientArgs,
}

fn since(left: bool) -> Option<String> {
    left.then(|| "applied".to_owned())
}

pub(super) async fn files(args: FilesArgs) -> Result<Exit, CliError> {
    let client = Client::new(&args.client)?;
    let path = format!("/api/sessions/{}/files", args.session);
    let mut files: Vec<FileView> = Vec::new();
    loop {
        let (offset, limit) = (Some(files.len().to_string()), Some("500".to_owned()));
        let query = [("since", since(args.left)), ("offset", offset), ("limit", limit)];
        let page: Vec<FileView> = client.get_with(&path, &query).await?;
        if page.is_empty() {
            break;
        }
        files.extend(page);
    }
    if args.json {
        output::json(&files)?;
        return Ok(Exit::Done);
    }
    let row = |file: FileView| {
        let by: Vec<String> = file.by.into_iter().map(|by| by.agent).collect();
        let lines = lines_of(file.binary, file.additions, file.deletions);
        vec![file.operation, lines, by.join(", "), path_of(file.path, file.old_path)]
    };
    let header = ["OPERATION", "LINES", "BY", "PATH"];
    output::table("no changed files", &header, files.into_iter().map(row).collect())?;
    Ok(Exit::Done)
}

pub(super) async fn diff(args: DiffArgs) -> Result<Exit, CliError> {
    let path = match (args.task, args.session) {
        (Some(task), _) => format!("/api/tasks/{task}/diff"),
        (None, Some(session)) => format!("/api/sessions/{session}/diff"),
        (None, None) => return Err(CliError::Usage("name a session, or a task with --task".to_owned())),
    };
    let query = [("since", since(args.left)), ("path", args.file)];
    Client::new(&args.client)?.copy_to_stdout(&path, &query).await?;
    Ok(Exit::Done)
}

pub(super) async fn lines(args: LinesArgs) -> Result<Exit, CliError> {
    let path = format!("/api/sessions/{}/lines", args.session);
    let query = [("path", Some(args.file))];
    let lines: Vec<LineView> = Client::new(&args.client)?.get_with(&path, &query).await?;
    if args.json {
        output::json(&lines)?;
        return Ok(Exit::Done);
    }
    let row = |lines: LineView| {
        let range = match lines.last {
            Some(last) if last == lines.first => last.to_string(),
            Some(last) => format!("{}-{last}", lines.first),
            None => format!("{}-", lines.first),
        };
        vec![range, lines.agent, lines.task_id.map(|task| task.to_string()).unwrap_or_default()]
    };
    let header = ["LINES", "BY", "TASK"];
    output::table("every line was there before", &header, lines.into_iter().map(row).collect())?;
    Ok(Exit::Done)
}
