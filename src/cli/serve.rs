//! `agentpool serve`. Sets up logging and hands over to the app.

use super::{CliError, Exit};
use crate::config::{self, ConfigArgs};
use crate::{app, telemetry};
use std::path::PathBuf;

/// Arguments of `serve`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
With nothing configured: a private Postgres in the data folder, the API on 127.0.0.1:7717 with a token that
the other commands find by themselves, and the agents that are installed. TERM or ^C lets running turns end,
a second one ends everything at once.")]
pub(super) struct ServeArgs {
    #[command(flatten)]
    config: ConfigArgs,
}

pub(super) async fn run(args: ServeArgs) -> Result<Exit, CliError> {
    let config = config::load(&args.config)?;
    telemetry::init(&config.log, config.log_format)?;
    // Not our path: the program that runs may have been replaced by an upgrade since.
    app::serve(config, PathBuf::from("/proc/self/exe")).await?;
    Ok(Exit::Done)
}
