//! `agentpool usage`: what turns used. Shows, changes nothing.

use super::client::{Client, ClientArgs};
use super::{CliError, Exit, output};
use crate::wire::api::UsageView;
use chrono::{DateTime, Utc};
use clap::builder::PossibleValuesParser;

/// Arguments of `usage`.
#[derive(clap::Args, Debug)]
pub(super) struct UsageArgs {
    /// Sum by this
    #[arg(long, default_value = "agent", value_parser = PossibleValuesParser::new(["agent", "model", "day", "session", "project"]))]
    by: String,
    /// From then on, as 2026-01-31T00:00:00Z [default: the last 30 days]
    #[arg(long, value_name = "TIME")]
    since: Option<DateTime<Utc>>,
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientArgs,
}

pub(super) async fn run(args: UsageArgs) -> Result<Exit, CliError> {
    let query = [("by", Some(args.by.clone())), ("since", args.since.map(|at| at.to_rfc3339()))];
    let sums: Vec<UsageView> = Client::new(&args.client)?.get_with("/api/usage", &query).await?;
    if args.json {
        output::json(&sums)?;
        return Ok(Exit::Done);
    }
    let row = |sum: UsageView| {
        let tokens =
            [sum.turns, sum.input_tokens, sum.output_tokens, sum.reasoning_tokens, sum.cache_read_tokens];
        let mut row = vec![if sum.key.is_empty() { "(not named)".to_owned() } else { sum.key }];
        row.extend(tokens.map(|count| count.to_string()));
        row.push(format!("{:.4}", sum.cost_usd));
        row
    };
    let by = args.by.to_uppercase();
    let header = [by.as_str(), "TURNS", "TOKENS IN", "OUT", "THINKING", "FROM CACHE", "USD"];
    output::table("nothing was used", &header, sums.into_iter().map(row).collect())?;
    Ok(Exit::Done)
}
