//! `agentpool permission answer`: a person's word to an agent.

use super::client::{Client, ClientArgs};
use super::{CliError, Exit, output};
use crate::wire::api::PermissionView;
use crate::wire::permission::AnswerBody;
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
}

#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  agentpool permission answer ID allow
  agentpool permission answer ID deny --message 'not outside of src/'
  agentpool permission answer ID --answer red --answer 'small|round'   two questions, two labels for the second")]
struct AnswerArgs {
    /// Id of the request, as `agentpool permissions` lists it
    id: Uuid,
    /// What is decided
    #[arg(required_unless_present = "answer")]
    decision: Option<Decision>,
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

pub(super) async fn run(args: PermissionArgs) -> Result<Exit, CliError> {
    let PermissionCommand::Answer(args) = args.command;
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
    match args.decision {
        Some(Decision::Deny) => Ok(AnswerBody::Deny { message }),
        _ if message.is_some() => {
            Err(CliError::Usage("--message goes with deny: an agent hears no words with a yes".to_owned()))
        }
        Some(Decision::Allow) => Ok(AnswerBody::AllowOnce),
        Some(Decision::Always) => Ok(AnswerBody::AllowAlways),
        None => {
            let labels = |text: &String| text.split('|').map(|label| label.trim().to_owned()).collect();
            Ok(AnswerBody::Answers { answers: args.answer.iter().map(labels).collect() })
        }
    }
}
