//! `agentpool permission answer`: a person's word to an agent. Standing rules are `permission_rule`'s.

use super::client::{Client, ClientArgs};
use super::{CliError, Exit, output};
use crate::wire::api::PermissionView;
use crate::wire::permission::{AnswerBody, RuleReach};
use clap::{Subcommand, ValueEnum};
use uuid::Uuid;

/// Arguments of `permission`.
#[derive(clap::Args, Debug)]
pub(super) struct PermissionArgs {
    #[command(subcommand)]
    command: PermissionCommand,
}

#[derive(Subcommand, Debug)]
enum PermissionCommand {
    /// Answer a request
    Answer(AnswerArgs),
    /// Make, list or remove standing rules: what is allowed or forbidden without being asked again
    Rule(super::permission_rule::RuleArgs),
}

#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  agentpool permission answer ID allow
  agentpool permission answer ID always --rule session     from now on exactly this, in this session
  agentpool permission answer ID deny --message 'not outside of src/'
  agentpool permission answer ID --answer red --answer 'small|round'   two questions, two labels for the second")]
struct AnswerArgs {
    /// Id of the request, as `agentpool permissions` lists it
    id: Uuid,
    /// What is decided
    #[arg(required_unless_present = "answer")]
    decision: Option<Decision>,
    /// With always: a standing rule for exactly this command or file, instead of the agent's own idea of the like
    #[arg(long, value_enum, value_name = "FOR", conflicts_with = "answer")]
    rule: Option<Reach>,
    /// With deny: told to the agent
    #[arg(long, value_name = "TEXT", conflicts_with = "answer")]
    message: Option<String>,
    /// The answer to a question, one for each; several labels of one question with | between them
    #[arg(long, value_name = "TEXT", conflicts_with = "decision")]
    answer: Vec<String>,
    /// The request as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Decision {
    /// Yes, this once
    Allow,
    /// Yes, and do not ask for the like again in this conversation
    Always,
    /// No
    Deny,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Reach {
    /// This session, whichever of its agents asks
    Session,
    /// This agent, in every session of the workspace
    Agent,
}

pub(super) async fn run(args: PermissionArgs) -> Result<Exit, CliError> {
    match args.command {
        PermissionCommand::Answer(args) => answer(args).await,
        PermissionCommand::Rule(args) => super::permission_rule::run(args).await,
    }
}

async fn answer(args: AnswerArgs) -> Result<Exit, CliError> {
    let body = body(&args)?;
    let client = Client::new(&args.client)?;
    let asked: PermissionView = client.post(&format!("/api/permissions/{}/answer", args.id), &body).await?;
    if args.json {
        output::json(&asked)?;
    } else {
        output::line(&format!("answered: {}", output::one_line(&asked.title, 120)))?;
    }
    Ok(Exit::Done)
}

fn body(args: &AnswerArgs) -> Result<AnswerBody, CliError> {
    let message = args.message.clone();
    let rule = args.rule.map(|reach| match reach {
        Reach::Session => RuleReach::Session,
        Reach::Agent => RuleReach::Agent,
    });
    if rule.is_some() && args.decision != Some(Decision::Always) {
        return Err(CliError::Usage("--rule goes with always".to_owned()));
    }
    match args.decision {
        Some(Decision::Deny) => Ok(AnswerBody::Deny { message }),
        _ if message.is_some() => {
            Err(CliError::Usage("--message goes with deny: an agent hears no words with a yes".to_owned()))
        }
        Some(Decision::Allow) => Ok(AnswerBody::AllowOnce),
        Some(Decision::Always) => Ok(AnswerBody::AllowAlways { rule }),
        None => {
            let labels = |text: &String| text.split('|').map(|label| label.trim().to_owned()).collect();
            Ok(AnswerBody::Answers { answers: args.answer.iter().map(labels).collect() })
        }
    }
}
