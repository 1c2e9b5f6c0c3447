//! `agentpool demo`: the whole product on a scratch repository, with a model that needs no key and no network. Speaks to the
//! node it starts as anyone would, over HTTP.

mod one_shot;
mod play;
mod report;
mod stage;

use super::{CliError, Exit};
use crate::app::Node;
use crate::shutdown::Shutdown;
use crate::telemetry;
use play::Played;
use stage::Stage;
use std::path::PathBuf;
use std::time::Instant;

/// Arguments of `demo`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Starts a private Postgres, an agent and a scripted model, runs two sessions of three turns each in parallel,
and shows what the turns cost. Everything lies in a scratch folder that is removed at the end.")]
pub(super) struct DemoArgs {
    /// The agent: `opencode` (found on PATH, or installed with npm) or `scripted` (needs neither)
    #[arg(long, default_value = "opencode", value_parser = ["opencode", "scripted"])]
    agent: String,
    /// Leave it running at the end, and say how to look at it
    #[arg(long)]
    keep: bool,
    /// Show the closing table as JSON, and nothing else on stdout
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: DemoArgs) -> Result<Exit, CliError> {
    telemetry::init("warn", crate::config::LogFormat::Text)?;
    let shutdown = Shutdown::default();
    let signals = tokio::spawn(shutdown.clone().on_signals());
    let outcome = tokio::select! {
        outcome = show(&args, &shutdown) => outcome,
        // The node drains inside `show`; this only ends a set-up that has no node yet.
        () = shutdown.killed() => Ok(Exit::Interrupted),
    };
    signals.abort();
    outcome
}

async fn show(args: &DemoArgs, shutdown: &Shutdown) -> Result<Exit, CliError> {
    let say = Say { quiet: args.json };
    let stage = tokio::select! {
        stage = Stage::set(&args.agent, say) => stage?,
        () = shutdown.asked() => return Ok(Exit::Interrupted),
    };
    say.line(&format!("everything is in {}", stage.folder().display()))?;
    let begun = Instant::now();
    let starting = Node::start(stage.config.clone(), PathBuf::from("/proc/self/exe"), shutdown.clone());
    let node = tokio::select! {
        node = starting => node?,
        () = shutdown.asked() => return Ok(Exit::Interrupted),
    };
    say.line(&format!(
        "Postgres, queue and API are up after {:.1} s: {}",
        begun.elapsed().as_secs_f64(),
        node.url()
    ))?;
    let (url, token, database) = (node.url(), node.token().to_owned(), node.database_url());
    let running = tokio::spawn(node.join());
    let played = tokio::select! {
        played = perform(args, &stage, &url, &token, say) => played.map(Some),
        () = shutdown.asked() => Ok(None),
    };
    let kept = args.keep && matches!(played, Ok(Some(_)));
    if kept {
        keep(&stage, &url, &database, shutdown, say).await?;
    }
    shutdown.ask();
    match running.await {
        Ok(ended) => ended?,
        Err(error) => return Err(CliError::Runtime(std::io::Error::other(error))),
    }
    match played? {
        Some(played) if played.all_completed() => Ok(Exit::Done),
        Some(_) => Ok(Exit::TaskFailed),
        None => Ok(Exit::Interrupted),
    }
}

async fn perform(
    args: &DemoArgs,
    stage: &Stage,
    url: &str,
    token: &str,
    say: Say,
) -> Result<Played, CliError> {
    let played = play::play(&args.agent, stage, url, token, say).await?;
    let one_shot = match &stage.opencode {
        Some(opencode) => {
            say.line("the same prompt by `opencode run`, twice, to compare …")?;
            Some(one_shot::run(stage, opencode).await?)
        }
        None => None,
    };
    report::show(args.json, &played, one_shot)?;
    Ok(played)
}

async fn keep(
    stage: &Stage,
    url: &str,
    database: &str,
    shutdown: &Shutdown,
    say: Say,
) -> Result<(), CliError> {
    let data = stage.config.data_dir.display();
    say.line("")?;
    say.line("It goes on running until ^C. Look at it from another terminal:")?;
    say.line(&format!("  agentpool sessions --url {url} --data-dir {data}"))?;
    say.line(&format!("  agentpool pool --url {url} --data-dir {data}"))?;
    say.line(&format!("  psql '{database}' -c 'SELECT status, agent, prompt FROM tasks'"))?;
    shutdown.asked().await;
    Ok(())
}

/// Speaks to a person, unless stdout belongs to a program.
#[derive(Clone, Copy)]
struct Say {
    quiet: bool,
}

impl Say {
    fn line(self, text: &str) -> Result<(), CliError> {
        if self.quiet { Ok(()) } else { super::output::line(text) }
    }
}
