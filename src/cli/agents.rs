//! `agentpool agents`: the service's agents, and the installation of one on this machine.

use super::client::{Client, ClientArgs};
use super::{CliError, Exit, output};
use crate::config::{self, ConfigArgs, ConfigPlace};
use crate::domain::agent::AgentName;
use crate::install::{self, Package, Progress};
use crate::wire::api::AgentView;
use crate::wire::catalogue::{AgentDetailView, OfferView};
use clap::Subcommand;
use clap::builder::PossibleValuesParser;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use std::time::Duration;

/// Arguments of `agents`.
#[derive(clap::Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct AgentsArgs {
    #[command(subcommand)]
    command: Option<AgentsCommand>,
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Subcommand, Debug)]
enum AgentsCommand {
    /// Show one agent with what it offers: models, modes, levels of thinking, options, commands
    Show(ShowArgs),
    /// Install an agent (or Postgres) into the data folder, in the version that agentpool is tested with
    Install(InstallArgs),
}

#[derive(clap::Args, Debug)]
struct ShowArgs {
    /// The agent's name
    name: String,
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(clap::Args, Debug)]
struct InstallArgs {
    /// What to install
    #[arg(value_parser = PossibleValuesParser::new(Package::ALL.map(Package::as_str)))]
    name: String,
    /// Where it went, as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: ConfigPlace,
}

pub(super) async fn run(args: AgentsArgs) -> Result<Exit, CliError> {
    match args.command {
        Some(AgentsCommand::Show(args)) => show(&args).await,
        Some(AgentsCommand::Install(args)) => install(args).await,
        None => list(&args.client, args.json).await,
    }
}

async fn list(client: &ClientArgs, json: bool) -> Result<Exit, CliError> {
    let agents: Vec<AgentView> = Client::new(client)?.get("/api/agents").await?;
    if json {
        output::json(&agents)?;
        return Ok(Exit::Done);
    }
    let row = |agent: AgentView| {
        let state = output::standing(agent.state, agent.parked_until);
        vec![agent.name, agent.backend, state, agent.default_model.unwrap_or_default(), agent.detail]
    };
    let nothing =
        "no agents: install one with `agentpool agents install opencode` and start the service again";
    let header = ["AGENT", "BACKEND", "STATE", "MODEL", "DETAIL"];
    output::table(nothing, &header, agents.into_iter().map(row).collect())?;
    Ok(Exit::Done)
}

async fn show(args: &ShowArgs) -> Result<Exit, CliError> {
    AgentName::new(args.name.as_str()).map_err(|error| CliError::Usage(error.to_string()))?;
    let path = format!("/api/agents/{}", args.name);
    let AgentDetailView { agent, catalogue, catalogue_error } = Client::new(&args.client)?.get(&path).await?;
    if args.json {
        output::json(&AgentDetailView { agent, catalogue, catalogue_error })?;
        return Ok(Exit::Done);
    }
    let state = output::standing(agent.state, agent.parked_until);
    output::line(&format!("{} ({}), {state}: {}", agent.name, agent.backend, agent.detail))?;
    let Some(catalogue) = catalogue else {
        let why = catalogue_error.unwrap_or_default();
        output::line(&format!("what it offers is not known: {why}"))?;
        return Ok(Exit::Done);
    };
    output::line(&catalogue.program)?;
    for (title, offers) in
        [("MODEL", catalogue.models), ("MODE", catalogue.modes), ("THINKING", catalogue.thinking)]
    {
        offered(title, offers)?;
    }
    for option in catalogue.options {
        offered(&format!("OPTION {}", option.id), option.values)?;
    }
    if !catalogue.commands.is_empty() {
        output::line("")?;
        let rows = catalogue.commands.into_iter().map(|command| vec![command.name, command.description]);
        output::table("", &["COMMAND", ""], rows.collect())?;
    }
    Ok(Exit::Done)
}

fn offered(title: &str, offers: Vec<OfferView>) -> Result<(), CliError> {
    if offers.is_empty() {
        return Ok(());
    }
    output::line("")?;
    let row = |offer: OfferView| {
        vec![offer.id, offer.name, if offer.is_default { "default".to_owned() } else { String::new() }]
    };
    output::table("", &[title, "NAME", ""], offers.into_iter().map(row).collect())?;
    Ok(())
}

async fn install(args: InstallArgs) -> Result<Exit, CliError> {
    let package = Package::parse(&args.name)
        .ok_or_else(|| CliError::Usage(format!("there is no package {:?}", args.name)))?;
    let config = config::load(&ConfigArgs { place: args.place, ..ConfigArgs::default() })?;
    let bar = Bar::new();
    let work = install::install(package, &config.data_dir, &bar);
    let installed = tokio::select! {
        installed = work => installed?,
        // Dropping the work kills npm.
        Ok(()) = tokio::signal::ctrl_c() => return Ok(Exit::Interrupted),
    };
    bar.0.finish_and_clear();
    if args.json {
        let leading: Vec<_> = installed.args.iter().map(|arg| arg.to_string_lossy()).collect();
        output::json(&json!({
            "name": args.name, "version": installed.version, "program": installed.program, "args": leading,
        }))?;
    } else {
        let mut command = installed.program.display().to_string();
        for arg in &installed.args {
            command = format!("{command} {}", arg.display());
        }
        output::line(&format!("{} {} is installed: {command}", args.name, installed.version))?;
    }
    Ok(Exit::Done)
}

/// On a terminal a line that moves; elsewhere each step is a line of its own.
pub(super) struct Bar(ProgressBar);

impl Bar {
    pub(super) fn new() -> Self {
        let bar = ProgressBar::new_spinner();
        let style = ProgressStyle::with_template("{spinner} {msg} {bytes} ({elapsed})");
        bar.set_style(style.expect("a constant template that a test reads"));
        bar.enable_steady_tick(Duration::from_millis(100));
        Self(bar)
    }
}

impl Progress for Bar {
    fn step(&self, message: &str) {
        if self.0.is_hidden() {
            output::hint(message);
        }
        self.0.set_position(0);
        self.0.set_message(message.to_owned());
    }

    fn bytes(&self, so_far: u64) {
        self.0.set_position(so_far);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bars_template_is_one() {
        Bar::new().step("downloading");
    }
}
