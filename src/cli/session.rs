//! `agentpool session new|show|close`.

use super::client::{Client, ClientArgs};
use super::project::{Project, policies};
use super::{CliError, Exit, output};
use crate::wire::api::{CloseSession, ClosedView, ConversationView, NewSession, SessionView};
use clap::Subcommand;
use std::path::Path;
use uuid::Uuid;

/// Arguments of `session`.
#[derive(clap::Args, Debug)]
pub(super) struct SessionArgs {
    #[command(subcommand)]
    command: SessionCommand,
}

#[derive(Subcommand, Debug)]
enum SessionCommand {
    /// Make a session on a repository
    New(NewArgs),
    /// Show a session and its conversations
    Show(ShowArgs),
    /// Close a session: what is queued ends as cancelled, its worktree goes; refused where work would be lost
    Close(CloseArgs),
}

#[derive(clap::Args, Debug)]
struct NewArgs {
    /// The repository [default: the one around this folder]
    #[arg(long, value_name = "PATH|URL")]
    project: Option<String>,
    /// Its title
    #[arg(long, default_value = "")]
    title: String,
    /// What holds in it when an agent asks [default: the agent's own policy]
    #[arg(long, value_name = "POLICY", value_parser = policies())]
    permission: Option<String>,
    /// Make its worktree at once, and let this agent begin what it can before the first prompt; may be given again
    #[arg(long, value_name = "AGENT")]
    prepare: Vec<String>,
    /// The session as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(clap::Args, Debug)]
struct ShowArgs {
    /// Id of the session
    id: Uuid,
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(clap::Args, Debug)]
struct CloseArgs {
    /// Id of the session
    id: Uuid,
    /// Remove the worktree although it holds work that is nowhere else; a last checkpoint is kept
    #[arg(long)]
    force: bool,
    /// Close it although its worktree holds such work, and leave the worktree where it is
    #[arg(long, conflicts_with = "force")]
    keep: bool,
    /// What it came to, as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientArgs,
}

pub(super) async fn run(args: SessionArgs) -> Result<Exit, CliError> {
    match args.command {
        SessionCommand::New(args) => new(args).await,
        SessionCommand::Show(args) => show(args).await,
        SessionCommand::Close(args) => close(args).await,
    }
}

async fn new(args: NewArgs) -> Result<Exit, CliError> {
    let project = match &args.project {
        Some(named) => Project::named(named)?,
        None => Project::around(Path::new("."))?,
    };
    let client = Client::new(&args.client)?;
    let plain = project.new_session(args.title, args.permission)?;
    let body = NewSession { prepare: args.prepare, ..plain };
    let session: SessionView = client.post("/api/sessions", &body).await?;
    if args.json {
        output::json(&session)?;
        return Ok(Exit::Done);
    }
    output::details(&[("session", Some(session.id.to_string()))])?;
    output::hint(&format!(
        "give it a task with `agentpool submit --session {}{} 'PROMPT'`",
        session.id,
        args.client.again()
    ));
    Ok(Exit::Done)
}

async fn show(args: ShowArgs) -> Result<Exit, CliError> {
    let session: SessionView = Client::new(&args.client)?.get(&format!("/api/sessions/{}", args.id)).await?;
    if args.json {
        output::json(&session)?;
        return Ok(Exit::Done);
    }
    output::details(&[
        ("session", Some(session.id.to_string())),
        ("title", Some(session.title).filter(|title| !title.is_empty())),
        ("project", Some(session.project)),
        ("status", Some(session.status)),
        ("permission", session.permission),
        ("open tasks", Some(session.open_tasks.to_string())),
        ("worktree", session.worktree),
        ("created", Some(output::moment(session.created_at))),
        ("closed", session.closed_at.map(output::moment)),
    ])?;
    if !session.conversations.is_empty() {
        output::line("")?;
        let header = ["AGENT", "STATUS", "TURNS", "TOKENS IN", "OUT", "USD", "CONVERSATION"];
        output::table("", &header, session.conversations.into_iter().map(conversation).collect())?;
    }
    Ok(Exit::Done)
}

fn conversation(of: ConversationView) -> Vec<String> {
    let status = match of.poisoned_reason {
        Some(reason) => format!("{}, not resumed: {reason}", of.status),
        None => of.status,
    };
    vec![
        of.agent,
        status,
        of.turns.to_string(),
        of.input_tokens.to_string(),
        of.output_tokens.to_string(),
        format!("{:.4}", of.cost_usd),
        of.agent_session_id.unwrap_or_default(),
    ]
}

async fn close(args: CloseArgs) -> Result<Exit, CliError> {
    let client = Client::new(&args.client)?;
    let body = CloseSession { force: args.force, keep: args.keep };
    let closed: ClosedView = client.post(&format!("/api/sessions/{}/close", args.id), &body).await?;
    if args.json {
        output::json(&closed)?;
        return Ok(Exit::Done);
    }
    output::line(match (closed.worktree_removed, &closed.worktree) {
        (true, _) => "closed, its worktree is removed",
        (false, Some(_)) => "closed, its worktree is kept",
        (false, None) => "closed",
    })?;
    output::details(&[("worktree", closed.worktree)])?;
    for reason in &closed.kept_because {
        output::details(&[("kept because", Some(reason.clone()))])?;
    }
    if !closed.kept_because.is_empty() {
        let again = args.client.again();
        output::hint(&format!(
            "take what you need with `agentpool changes apply {id}{again}`, then `agentpool session close {id} --force{again}`",
            id = args.id
        ));
    }
    Ok(Exit::Done)
}
