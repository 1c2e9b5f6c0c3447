//! `agentpool sessions`: the listing. Shows, changes nothing.

use super::client::{Client, ClientArgs};
use super::{CliError, Exit, output};
use crate::domain::session::SessionStatus;
use crate::wire::api::SessionView;
use chrono::Utc;
use clap::builder::PossibleValuesParser;

/// Arguments of `sessions`.
#[derive(clap::Args, Debug)]
pub(super) struct SessionsArgs {
    /// Only with this status
    #[arg(long, value_parser = PossibleValuesParser::new(SessionStatus::ALL.map(SessionStatus::as_str)))]
    status: Option<String>,
    /// How many at most [default: 50]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=500))]
    limit: Option<u32>,
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientArgs,
}

pub(super) async fn run(args: SessionsArgs) -> Result<Exit, CliError> {
    let query = [("status", args.status), ("limit", args.limit.map(|limit| limit.to_string()))];
    let sessions: Vec<SessionView> = Client::new(&args.client)?.get_with("/api/sessions", &query).await?;
    if args.json {
        output::json(&sessions)?;
        return Ok(Exit::Done);
    }
    let now = Utc::now();
    let row = |session: SessionView| {
        vec![
            session.id.to_string(),
            session.status,
            session.project,
            session.open_tasks.to_string(),
            output::age(session.created_at, now),
            session.agents.join(", "),
            session.title,
        ]
    };
    let header = ["SESSION", "STATUS", "PROJECT", "OPEN TASKS", "AGE", "AGENTS", "TITLE"];
    output::table("no sessions", &header, sessions.into_iter().map(row).collect())?;
    Ok(Exit::Done)
}
