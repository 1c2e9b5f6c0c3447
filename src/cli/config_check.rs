//! `agentpool config check`: what holds, and where each part of it comes from. Shows no secret, starts nothing.

use super::{CliError, Exit, output};
use crate::config::{self, ConfigArgs, Loaded};
use crate::domain::agent::BackendKind;
use clap::Subcommand;
use serde_json::{Value, json};

/// Arguments of `config`.
#[derive(clap::Args, Debug)]
pub(super) struct ConfigCommandArgs {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Subcommand, Debug)]
enum ConfigCommand {
    /// Print the configuration that holds, without its secrets; exit code 78 when it cannot be used
    Check(CheckArgs),
}

#[derive(clap::Args, Debug)]
#[command(after_help = "\
Flags win over variables (AGENTPOOL_HANDS, AGENTPOOL_POOL__LIVE_MAX, DATABASE_URL, …), these over agentpool.toml,
which looks like this:

  hands = 4
  [agents.opencode]
  model = \"anthropic/claude-sonnet-4-5\"
  permission = { policy = \"ask\", deadline_secs = 600 }
  [agents.claude]
  mode = \"plan\"
  mcp_servers = [{ name = \"files\", command = \"mcp-files\" }]
  [agents.mine]
  backend = \"acp_warm\"
  command = \"/opt/mine/agent\"
  args = [\"--acp\"]")]
struct CheckArgs {
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigArgs,
}

pub(super) fn run(args: ConfigCommandArgs) -> Result<Exit, CliError> {
    let ConfigCommand::Check(args) = args.command;
    let Loaded { config, file, origins } = config::load_with_origins(&args.config)?;
    // What is only read when an agent starts is read here too.
    for agent in config.agents.values() {
        agent.variables()?;
    }
    let warnings = warnings(&config);
    if args.json {
        let shown = json!({
            "file": file, "config": config.redacted(), "origins": origins, "warnings": warnings,
        });
        output::json(&shown)?;
        return Ok(Exit::Done);
    }
    let mut rows = Vec::new();
    leaves(String::new(), &config.redacted(), &mut |key, value| {
        let origin = origins.get(&key).map_or("default", String::as_str);
        rows.push(vec![key, value, origin.to_owned()]);
    });
    output::table("", &["KEY", "VALUE", "FROM"], rows)?;
    for warning in warnings {
        output::hint(&format!("warning: {warning}"));
    }
    Ok(Exit::Done)
}

/// What can be started with, but hardly was meant.
fn warnings(config: &config::Config) -> Vec<String> {
    let mut warnings = Vec::new();
    if config.agents.is_empty() {
        warnings.push("no agent was found: install one with `agentpool agents install opencode`".to_owned());
    }
    for (name, agent) in &config.agents {
        if agent.backend != BackendKind::Scripted && agent.program(&config.data_dir).is_none() {
            warnings.push(format!("the program of agent {name} was not found: set agents.{name}.command"));
        }
        if agent.backend == BackendKind::AcpWarm && agent.preset.is_none() && !agent.repository_config {
            warnings.push(format!(
                "agent {name} has no preset: how to keep it from what repositories configure is not known"
            ));
        }
    }
    warnings
}

/// Every value that is no table of others, with its full key.
fn leaves(key: String, value: &Value, each: &mut impl FnMut(String, String)) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (field, value) in fields {
                let key = if key.is_empty() { field.clone() } else { format!("{key}.{field}") };
                leaves(key, value, each);
            }
        }
        Value::Object(_) | Value::Null => {}
        Value::String(text) => each(key, text.clone()),
        other => each(key, other.to_string()),
    }
}
