//! `agentpool doctor`: looks at everything that the service needs and says what to do about what is missing. Repairs
//! nothing, and leaves nothing behind.

mod acp;
mod database;
mod machine;
mod service;

use super::{CliError, ClientArgs, Exit, output};
use crate::config::{self, ConfigArgs};
use serde::Serialize;

/// Arguments of `doctor`.
#[derive(clap::Args, Debug)]
#[command(after_help = "Exit code 1 when something is missing without which no task can run.")]
pub(super) struct DoctorArgs {
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigArgs,
}

/// What one look came to.
#[derive(Clone, Debug, Serialize)]
struct Check {
    /// What was looked at.
    name: String,
    verdict: Verdict,
    /// What was found.
    found: String,
    /// What to do, when it is not well.
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Ok,
    /// It works, but not everything does or not everywhere.
    Warn,
    /// No task can run like this.
    Fail,
}

impl Check {
    fn ok(name: impl Into<String>, found: impl Into<String>) -> Self {
        Self { name: name.into(), verdict: Verdict::Ok, found: found.into(), advice: None }
    }

    fn warn(name: impl Into<String>, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { verdict: Verdict::Warn, advice: Some(advice.into()), ..Self::ok(name, found) }
    }

    fn fail(name: impl Into<String>, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { verdict: Verdict::Fail, advice: Some(advice.into()), ..Self::ok(name, found) }
    }
}

pub(super) async fn run(args: DoctorArgs) -> Result<Exit, CliError> {
    let config = config::load(&args.config)?;
    let scheme = if config.tls.is_some() { "https" } else { "http" };
    let url = args.config.listen.as_ref().map(|listen| format!("{scheme}://{listen}"));
    let client = ClientArgs { url, place: args.config.place.clone(), ..ClientArgs::default() };
    let (database, git, node, agents, service) = tokio::join!(
        database::check(&config),
        machine::git(),
        machine::node(),
        machine::agents(&config),
        service::check(&client),
    );
    let mut checks = vec![machine::data_folder(&config.data_dir)];
    checks.extend(database);
    checks.extend([git, node]);
    checks.extend(agents);
    checks.push(service);
    if args.json {
        output::json(&checks)?;
    } else {
        checks.iter().try_for_each(show)?;
    }
    let failed = checks.iter().any(|check| check.verdict == Verdict::Fail);
    Ok(if failed { Exit::Fault } else { Exit::Done })
}

fn show(check: &Check) -> Result<(), CliError> {
    let (style, word) = match check.verdict {
        Verdict::Ok => (output::GREEN, "ok  "),
        Verdict::Warn => (output::YELLOW, "warn"),
        Verdict::Fail => (output::RED, "fail"),
    };
    let found = output::one_line(&check.found, 400);
    output::line(&format!("{style}{word}{style:#}  {:<18}  {found}", check.name))?;
    match &check.advice {
        Some(advice) => output::line(&format!("      {:<18}  {}", "", output::one_line(advice, 400))),
        None => Ok(()),
    }
}
