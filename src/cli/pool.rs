//! `agentpool pool`: the warm agents. Shows, changes nothing.

use super::client::{Client, ClientArgs};
use super::{CliError, Exit, output};
use crate::wire::pool::{BackendView, CountersView, MemoryView, PoolView, SlotView, TimesView};

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
    let PoolView { size, busy, idle, evictions, counters, memory, slots, backends } = pool;
    output::line(&format!("{size} warm: {busy} busy, {idle} idle; {evictions} given back since the start"))?;
    output::line(&memory_line(&memory))?;
    for line in since_the_start(&counters) {
        output::line(&line)?;
    }
    if !backends.is_empty() {
        output::line("")?;
        let header = ["BACKEND", "STATE", "MEMORY", "STARTS", "LOST", "PIDS", "DETAIL"];
        output::table("", &header, backends.into_iter().map(backend).collect())?;
    }
    if !slots.is_empty() {
        output::line("")?;
        let header = ["SESSION", "AGENT", "STATE", "MEMORY", "CONVERSATION"];
        output::table("", &header, slots.into_iter().map(slot).collect())?;
    }
    Ok(Exit::Done)
}

fn memory_line(of: &MemoryView) -> String {
    let mut line = format!("memory: {} MB of {} MB", of.bytes / 1_000_000, of.budget_bytes / 1_000_000);
    for (bytes, what) in [
        (of.spare_bytes, "spare processes"),
        (of.stray_bytes, "left behind"),
        (of.over_bytes, "over the budget, in use or shared"),
    ] {
        if bytes > 0 {
            line += &format!(", {} MB {what}", bytes.div_ceil(1_000_000));
        }
    }
    line
}

fn megabytes(bytes: u64) -> String {
    if bytes == 0 { String::new() } else { format!("{} MB", bytes.div_ceil(1_000_000)) }
}

/// A line of what became of turns' wishes for a conversation, and one of what was given back, where there is anything to tell.
fn since_the_start(of: &CountersView) -> Vec<String> {
    let mut lines = Vec::new();
    if of.warm.count + of.cold.count + of.failed > 0 {
        let told = [
            (of.hits, "warm"),
            (of.resumed, "resumed"),
            (of.new, "new"),
            (of.new_instead_of_resumed, "new instead of resumed"),
            (of.failed, "failed"),
        ];
        lines.push(format!("conversations: {}", those(&told)));
        let took = [("warm", &of.warm), ("cold", &of.cold)];
        let took = took.iter().filter(|(_, times)| times.count > 0).map(|(what, times)| took_of(what, times));
        let took: Vec<String> = took.collect();
        if !took.is_empty() {
            lines.push(format!("ready after: {}", took.join("; ")));
        }
    }
    let given_back = [
        (of.evicted_idle, "idle for too long"),
        (of.evicted_too_many, "too many"),
        (of.evicted_for_memory, "too much memory"),
        (of.releases_failed, "not confirmed"),
    ];
    if given_back.iter().any(|(count, _)| *count > 0) {
        lines.push(format!("given back: {}", those(&given_back)));
    }
    lines
}

fn those(counts: &[(u64, &str)]) -> String {
    let told = counts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}"));
    told.collect::<Vec<_>>().join(", ")
}

fn took_of(what: &str, times: &TimesView) -> String {
    let ms = |ms: Option<f64>| ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.0} ms"));
    format!("{what} {} (p95 {}, last {})", ms(times.p50_ms), ms(times.p95_ms), ms(Some(times.last_ms)))
}

fn backend(of: BackendView) -> Vec<String> {
    let pids: Vec<String> = of.pids.iter().map(u32::to_string).collect();
    let state = output::standing(of.state, of.parked_until);
    let memory = megabytes(of.resident_bytes);
    vec![of.agent, state, memory, of.starts.to_string(), of.lost.to_string(), pids.join(" "), of.detail]
}

fn slot(of: SlotView) -> Vec<String> {
    let state = if of.busy { "busy".to_owned() } else { format!("idle {}s", of.idle_secs) };
    let memory = megabytes(of.memory_bytes);
    vec![of.session_id.to_string(), of.agent, state, memory, of.agent_session_id.unwrap_or_default()]
}
