//! `agentpool pool`: the warm agents. Shows, changes nothing.

use super::client::{Client, ClientArgs};
use super::{CliError, Exit, output};
use crate::wire::api::{BackendView, PoolView, SlotView};

/// Arguments of `pool`.
#[derive(clap::Args, Debug)]
pub(super) struct PoolArgs {
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientArgs,
}

pub(super) async fn run(args: PoolArgs) -> Result<Exit, CliError> {
    let pool: PoolView = Client::new(&args.client)?.get("/api/pool").await?;
    if args.json {
        output::json(&pool)?;
        return Ok(Exit::Done);
    }
    let PoolView { size, busy, idle, evictions, slots, backends } = pool;
    output::line(&format!("{size} warm: {busy} busy, {idle} idle; {evictions} given back since the start"))?;
    if !backends.is_empty() {
        output::line("")?;
        let header = ["BACKEND", "STATE", "MEMORY", "PIDS", "DETAIL"];
        output::table("", &header, backends.into_iter().map(backend).collect())?;
    }
    if !slots.is_empty() {
        output::line("")?;
        let header = ["SESSION", "AGENT", "STATE", "CONVERSATION"];
        output::table("", &header, slots.into_iter().map(slot).collect())?;
    }
    Ok(Exit::Done)
}

fn backend(of: BackendView) -> Vec<String> {
    let pids: Vec<String> = of.pids.iter().map(u32::to_string).collect();
    let memory = match of.resident_bytes {
        0 => String::new(),
        bytes => format!("{} MB", bytes / 1_000_000),
    };
    let state = output::standing(of.state, of.parked_until);
    vec![of.agent, state, memory, pids.join(" "), of.detail]
}

fn slot(of: SlotView) -> Vec<String> {
    let state = if of.busy { "busy".to_owned() } else { format!("idle {}s", of.idle_secs) };
    vec![of.session_id.to_string(), of.agent, state, of.agent_session_id.unwrap_or_default()]
}
