//! `agentpool token create|list|revoke`: who may use the API of the service.

use super::client::{Client, ClientArgs};
use super::{CliError, Exit, output};
use crate::wire::api::{NewToken, NewTokenView, TokenView};
use clap::{Subcommand, ValueEnum};
use uuid::Uuid;

/// Arguments of `token`.
#[derive(clap::Args, Debug)]
pub(super) struct TokenArgs {
    #[command(subcommand)]
    command: TokenCommand,
}

#[derive(Subcommand, Debug)]
enum TokenCommand {
    /// Make a token; its text is shown this once
    Create(CreateArgs),
    /// List tokens, newest first, without their texts
    List(ListArgs),
    /// Let nobody in with a token any more
    Revoke(RevokeArgs),
}

#[derive(clap::Args, Debug)]
struct CreateArgs {
    /// What it is called
    name: String,
    /// What it is for
    #[arg(long, value_enum, default_value = "client")]
    scope: TokenScope,
    /// The workspace of a client or runner [default: default]
    #[arg(long, value_name = "NAME")]
    workspace: Option<String>,
    /// The token as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum TokenScope {
    /// Everything, in every workspace
    Admin,
    /// Sessions, tasks, permissions and changes of one workspace
    Client,
    /// A remote runner of one workspace
    Runner,
}

#[derive(clap::Args, Debug)]
struct ListArgs {
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(clap::Args, Debug)]
struct RevokeArgs {
    /// Id of the token, as `agentpool token list` shows it
    id: Uuid,
    /// The token as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientArgs,
}

pub(super) async fn run(args: TokenArgs) -> Result<Exit, CliError> {
    match args.command {
        TokenCommand::Create(args) => create(args).await,
        TokenCommand::List(args) => list(args).await,
        TokenCommand::Revoke(args) => revoke(args).await,
    }
}

async fn create(args: CreateArgs) -> Result<Exit, CliError> {
    let scope = match args.scope {
        TokenScope::Admin => "admin",
        TokenScope::Client => "client",
        TokenScope::Runner => "runner",
    };
    let body = NewToken { name: args.name, scope: scope.to_owned(), workspace: args.workspace };
    let made: NewTokenView = Client::new(&args.client)?.post("/api/tokens", &body).await?;
    if args.json {
        output::json(&made)?;
        return Ok(Exit::Done);
    }
    // Alone on stdout, so that a script can keep it.
    output::line(&made.secret)?;
    output::hint(&format!(
        "it is shown this once; give it to the commands as AGENTPOOL_TOKEN, and take it back with `agentpool token revoke {}{}`",
        made.token.id,
        args.client.again()
    ));
    Ok(Exit::Done)
}

async fn list(args: ListArgs) -> Result<Exit, CliError> {
    let tokens: Vec<TokenView> = Client::new(&args.client)?.get("/api/tokens").await?;
    if args.json {
        output::json(&tokens)?;
        return Ok(Exit::Done);
    }
    let row = |token: TokenView| {
        vec![
            token.id.to_string(),
            token.name,
            token.scope,
            token.workspace.unwrap_or_else(|| "all".to_owned()),
            output::moment(token.created_at),
            token.last_used_at.map_or_else(|| "never".to_owned(), output::moment),
            token.revoked_at.map(output::moment).unwrap_or_default(),
        ]
    };
    let header = ["TOKEN", "NAME", "SCOPE", "WORKSPACE", "CREATED", "LAST USED", "REVOKED"];
    output::table("no tokens but the data folder's own", &header, tokens.into_iter().map(row).collect())?;
    Ok(Exit::Done)
}

async fn revoke(args: RevokeArgs) -> Result<Exit, CliError> {
    let token: TokenView =
        Client::new(&args.client)?.post(&format!("/api/tokens/{}/revoke", args.id), &()).await?;
    if args.json {
        output::json(&token)?;
        return Ok(Exit::Done);
    }
    output::line(&format!("{} lets nobody in any more", token.name))?;
    Ok(Exit::Done)
}
