//! `agentpool permission rule add|list|remove`: what is allowed or forbidden without being asked again.

use super::client::{Client, ClientArgs};
use super::{CliError, Exit, output};
use crate::wire::api::{NewPermissionRule, PermissionRuleView};
use clap::Subcommand;
use serde_json::json;
use uuid::Uuid;

/// Arguments of `permission rule`.
#[derive(clap::Args, Debug)]
pub(super) struct RuleArgs {
    #[command(subcommand)]
    command: RuleCommand,
}

#[derive(Subcommand, Debug)]
enum RuleCommand {
    /// Make a rule, and answer what is open and matches
    Add(AddArgs),
    /// List rules, newest first
    List(ListArgs),
    /// Take a rule away
    Remove(RemoveArgs),
}

#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  agentpool permission rule add --session ID --tool bash 'cargo test'   also with whatever words follow
  agentpool permission rule add --agent opencode --tool edit 'src/**'   files within the worktree
  agentpool permission rule add --agent opencode --tool bash 'git push' --deny

A rule allows where a person would be asked; what it forbids is refused under every policy. A command with anything that a shell
reads as more than words (; & | < > $ ` …) is never allowed by a rule.")]
struct AddArgs {
    /// In that session only
    #[arg(long, value_name = "ID")]
    session: Option<Uuid>,
    /// Of that agent only
    #[arg(long, value_name = "NAME", required_unless_present = "session")]
    agent: Option<String>,
    /// The workspace of a rule without a session [default: the token's, else default]
    #[arg(long, value_name = "NAME", conflicts_with = "session")]
    workspace: Option<String>,
    /// The tool's name or kind, as bash, edit, webfetch
    #[arg(long, value_name = "NAME")]
    tool: String,
    /// The words that a command begins with, or paths; without it whatever the tool does
    pattern: Option<String>,
    /// The pattern is the whole command, or the path itself
    #[arg(long, requires = "pattern")]
    exact: bool,
    /// Forbid it instead
    #[arg(long)]
    deny: bool,
    /// The rule as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(clap::Args, Debug)]
struct ListArgs {
    /// For that session
    #[arg(long, value_name = "ID")]
    session: Option<Uuid>,
    /// For that agent
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(clap::Args, Debug)]
struct RemoveArgs {
    /// Id of the rule, as `agentpool permission rule list` shows it
    id: Uuid,
    /// Its id as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientArgs,
}

pub(super) async fn run(args: RuleArgs) -> Result<Exit, CliError> {
    match args.command {
        RuleCommand::Add(args) => add(args).await,
        RuleCommand::List(args) => list(args).await,
        RuleCommand::Remove(args) => remove(args).await,
    }
}

async fn add(args: AddArgs) -> Result<Exit, CliError> {
    let body = NewPermissionRule {
        session_id: args.session,
        agent: args.agent,
        workspace: args.workspace,
        tool: args.tool,
        pattern: args.pattern,
        exact: args.exact,
        decision: if args.deny { "deny" } else { "allow" }.to_owned(),
    };
    let made: PermissionRuleView = Client::new(&args.client)?.post("/api/permission-rules", &body).await?;
    if args.json {
        output::json(&made)?;
        return Ok(Exit::Done);
    }
    output::line(&format!("rule {}: {}", made.id, output::one_line(&story(&made), 200)))?;
    output::hint(&format!(
        "take it back with `agentpool permission rule remove {}{}`",
        made.id,
        args.client.again()
    ));
    Ok(Exit::Done)
}

async fn list(args: ListArgs) -> Result<Exit, CliError> {
    let query = [("session", args.session.map(|id| id.to_string())), ("agent", args.agent)];
    let rules: Vec<PermissionRuleView> =
        Client::new(&args.client)?.get_with("/api/permission-rules", &query).await?;
    if args.json {
        output::json(&rules)?;
        return Ok(Exit::Done);
    }
    let row = |rule: PermissionRuleView| {
        vec![
            rule.id.to_string(),
            rule.session_id.map_or_else(|| "all".to_owned(), |id| id.to_string()),
            rule.agent.clone().unwrap_or_else(|| "all".to_owned()),
            story(&rule),
            output::moment(rule.created_at),
        ]
    };
    let header = ["RULE", "SESSION", "AGENT", "SAYS", "CREATED"];
    output::table("no rules", &header, rules.into_iter().map(row).collect())?;
    Ok(Exit::Done)
}

async fn remove(args: RemoveArgs) -> Result<Exit, CliError> {
    Client::new(&args.client)?.delete(&format!("/api/permission-rules/{}", args.id)).await?;
    if args.json {
        output::json(&json!({"removed": args.id}))?;
    } else {
        output::line(&format!("rule {} holds no more", args.id))?;
    }
    Ok(Exit::Done)
}

/// `allow bash: cargo test …`.
fn story(rule: &PermissionRuleView) -> String {
    let what = match (&rule.pattern, rule.exact) {
        (None, _) => "whatever it does".to_owned(),
        (Some(pattern), true) => format!("exactly {pattern}"),
        (Some(pattern), false) => pattern.clone(),
    };
    format!("{} {}: {what}", rule.decision, rule.tool)
}
