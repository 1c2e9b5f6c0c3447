//! `agentpool submit`: a prompt becomes a task. Waits for nothing unless asked to follow.

use super::client::{Client, ClientArgs};
use super::project::{Project, policies};
use super::{CliError, Exit, output, tail};
use crate::domain::task::PROMPT_BYTES_MAX;
use crate::wire::api::{AgentView, NewTask, SessionView, TaskView};
use chrono::{DateTime, TimeDelta, Utc};
use std::io::Read;
use std::path::Path;
use uuid::Uuid;

/// Longest title that is made of a prompt, in characters.
const TITLE_CHARS_MAX: usize = 60;

/// The agent that is meant when the service has several and none is named.
const AGENT_DEFAULT: &str = "opencode";

/// Arguments of `submit`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  agentpool submit --follow 'make the tests pass'     in the repository of this folder
  agentpool submit --session ID 'now the docs'        goes on in the same worktree and conversation
  git diff | agentpool submit --project . -           the prompt from stdin
  agentpool submit --run-at +2h 'update the lock file'

With --follow the exit code is the task's: 0 completed, 3 failed or cancelled. ^C only detaches.")]
pub(super) struct SubmitArgs {
    /// What is to be done; `-` reads it from stdin
    prompt: String,
    /// Go on in this session
    #[arg(long, value_name = "ID", conflicts_with_all = ["project", "title", "permission"])]
    session: Option<Uuid>,
    /// Make a new session on this repository [default: the one around this folder]
    #[arg(long, value_name = "PATH|URL")]
    project: Option<String>,
    /// Title of the new session [default: the beginning of the prompt]
    #[arg(long)]
    title: Option<String>,
    /// What holds in the new session when the agent asks [default: the agent's own policy]
    #[arg(long, value_name = "POLICY", value_parser = policies())]
    permission: Option<String>,
    /// Who is to do it [default: the only agent, else opencode]
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
    /// Model, as the agent calls it (`provider/model`) [default: the agent's]
    #[arg(long)]
    model: Option<String>,
    /// Mode of the agent (build, plan, …)
    #[arg(long)]
    mode: Option<String>,
    /// Sessions with higher ones run first; within a session tasks keep their order
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(i16).range(-100..=100))]
    priority: Option<i16>,
    /// Not before: an RFC 3339 time, or +30s, +10m, +2h, +1d
    #[arg(long, value_name = "TIME", value_parser = parse_run_at)]
    run_at: Option<DateTime<Utc>>,
    /// Sent again with the same key it stays one task; wants --session, since a new session is made each time
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// Show what the agent does until the task has ended
    #[arg(long, short)]
    follow: bool,
    /// The task as JSON; with --follow its events too, one object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientArgs,
}

/// Where the task goes.
enum Place {
    Session(Uuid),
    New(Project),
}

pub(super) async fn run(args: SubmitArgs) -> Result<Exit, CliError> {
    let prompt = read_prompt(&args.prompt, &mut std::io::stdin())?;
    // Not by clap: its `requires` is not asked of an argument that conflicts with one that is there (--project).
    if args.idempotency_key.is_some() && args.session.is_none() {
        return Err(CliError::Usage(
            "--idempotency-key wants --session: without one each submit makes a new session, and so a new task".to_owned(),
        ));
    }
    let place = match (args.session, &args.project) {
        (Some(id), _) => Place::Session(id),
        (None, Some(named)) => Place::New(Project::named(named)?),
        (None, None) => Place::New(Project::around(Path::new("."))?),
    };
    let client = Client::new(&args.client)?;
    // Before a session is made, so that a slip in the name leaves none behind.
    let agent = choose_agent(args.agent.clone(), client.get("/api/agents").await?)?;
    let session_id = match place {
        Place::Session(id) => id,
        Place::New(project) => {
            let title = args.title.clone().unwrap_or_else(|| output::one_line(&prompt, TITLE_CHARS_MAX));
            client
                .post::<SessionView>("/api/sessions", &project.new_session(title, args.permission.clone())?)
                .await?
                .id
        }
    };
    let task = NewTask {
        session_id,
        agent,
        prompt,
        model: args.model.clone(),
        mode_id: args.mode.clone(),
        priority: args.priority,
        run_at: args.run_at,
        ..NewTask::default()
    };
    let key = args.idempotency_key.as_deref();
    let (task, repeated) = client.post_once::<TaskView>("/api/tasks", &task, key).await?;
    tell(&args, &task, repeated)?;
    if args.follow {
        return tail::follow_task(&client, &args.client, task.id, args.json).await;
    }
    Ok(Exit::Done)
}

fn tell(args: &SubmitArgs, task: &TaskView, repeated: bool) -> Result<(), CliError> {
    if args.json {
        return if args.follow { output::json_line(task) } else { output::json(task) };
    }
    if repeated {
        output::hint("this task was submitted before under the same key");
    }
    output::details(&[("task", Some(task.id.to_string())), ("session", Some(task.session_id.to_string()))])?;
    if !args.follow {
        output::hint(&format!("follow it with `agentpool tail {}{}`", task.id, args.client.again()));
    }
    Ok(())
}

/// The text itself, or what `stdin` has when it is `-`.
fn read_prompt(given: &str, stdin: &mut impl Read) -> Result<String, CliError> {
    let prompt = if given == "-" {
        let mut bytes = Vec::new();
        // One byte more than allowed is enough to know.
        let limit = PROMPT_BYTES_MAX as u64 + 1;
        let read = stdin.take(limit).read_to_end(&mut bytes);
        read.map_err(|source| CliError::File { path: "/dev/stdin".into(), source })?;
        if bytes.len() > PROMPT_BYTES_MAX {
            return Err(too_long());
        }
        String::from_utf8(bytes).map_err(|_| CliError::Usage("the prompt is no UTF-8 text".to_owned()))?
    } else {
        given.to_owned()
    };
    match prompt.len() {
        _ if prompt.trim().is_empty() => Err(CliError::Usage("the prompt is empty".to_owned())),
        0..=PROMPT_BYTES_MAX => Ok(prompt),
        _ => Err(too_long()),
    }
}

fn too_long() -> CliError {
    CliError::Usage(format!(
        "the prompt is longer than {} KiB: put the rest into a file of the project",
        PROMPT_BYTES_MAX / 1024
    ))
}

/// The one that was named, or the only one, or opencode.
fn choose_agent(named: Option<String>, agents: Vec<AgentView>) -> Result<String, CliError> {
    let names: Vec<String> = agents.into_iter().map(|agent| agent.name).collect();
    let install = "install one with `agentpool agents install opencode` and start the service again";
    let known = match names.as_slice() {
        [] => install.to_owned(),
        names => format!("it has {}", names.join(", ")),
    };
    match (named, names.as_slice()) {
        (Some(name), names) if names.contains(&name) => Ok(name),
        (Some(name), _) => {
            let detail = format!("the service has no agent {name:?}: {known}");
            Err(CliError::not_found(detail))
        }
        (None, [only]) => Ok(only.clone()),
        (None, names) if names.iter().any(|name| name == AGENT_DEFAULT) => Ok(AGENT_DEFAULT.to_owned()),
        (None, []) => Err(CliError::not_found(format!("the service has no agents: {install}"))),
        (None, _) => Err(CliError::Usage(format!("say which agent is meant with --agent: {known}"))),
    }
}

fn parse_run_at(text: &str) -> Result<DateTime<Utc>, String> {
    let wrong = || format!("{text:?} is no time: write 2030-01-31T18:00:00Z, or +30s, +10m, +2h, +1d");
    let Some(wait) = text.strip_prefix('+') else {
        return DateTime::parse_from_rfc3339(text).map(|at| at.to_utc()).map_err(|_| wrong());
    };
    let unit_secs = match wait.chars().last() {
        Some('s') => 1,
        Some('m') => 60,
        Some('h') => 3600,
        Some('d') => 86_400,
        _ => return Err(wrong()),
    };
    let number: u32 = wait[..wait.len() - 1].parse().map_err(|_| wrong())?;
    TimeDelta::try_seconds(i64::from(number) * unit_secs)
        .and_then(|wait| Utc::now().checked_add_signed(wait))
        .ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_that_the_service_would_refuse_is_refused_here() {
        let read = |given: &str, stdin: &[u8]| read_prompt(given, &mut &*stdin);
        assert_eq!(read("-", b"from stdin\n").unwrap(), "from stdin\n");
        assert_eq!(read("given", b"unread").unwrap(), "given");
        let long = vec![b'x'; PROMPT_BYTES_MAX + 1];
        for (given, stdin) in [("", &b""[..]), ("-", b" \n"), ("-", b"\xff"), ("-", &long)] {
            assert!(matches!(read(given, stdin), Err(CliError::Usage(_))), "{given:?}");
        }
        assert_eq!(read("-", &long[1..]).unwrap().len(), PROMPT_BYTES_MAX);
    }

    #[test]
    fn a_time_is_absolute_or_from_now() {
        assert_eq!(
            parse_run_at("2030-01-31T18:00:00+01:00").unwrap().to_rfc3339(),
            "2030-01-31T17:00:00+00:00"
        );
        let in_two_hours = parse_run_at("+2h").unwrap() - Utc::now();
        assert!((7190..=7200).contains(&in_two_hours.num_seconds()));
        for wrong in ["", "+", "+2", "+xh", "tomorrow", "+2é", "+99999999999d"] {
            assert!(parse_run_at(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_only_agent_is_meant_else_opencode() {
        let agent = |name: &str| AgentView {
            name: name.to_owned(),
            backend: "scripted".to_owned(),
            default_model: None,
            state: "cold".to_owned(),
            detail: String::new(),
            parked_until: None,
        };
        let chosen = |named: Option<&str>, names: &[&str]| {
            choose_agent(named.map(str::to_owned), names.iter().copied().map(agent).collect())
        };
        assert_eq!(chosen(None, &["a"]).unwrap(), "a");
        assert_eq!(chosen(None, &["a", "opencode"]).unwrap(), "opencode");
        assert_eq!(chosen(Some("b"), &["a", "b"]).unwrap(), "b");
        assert!(matches!(chosen(None, &["a", "b"]), Err(CliError::Usage(_))));
        for (named, names) in [(Some("c"), &["a", "b"][..]), (None, &[]), (Some("a"), &[])] {
            let error = chosen(named, names).unwrap_err();
            assert_eq!(error.exit(), Exit::NotFoundOrConflict, "{error}");
        }
    }
}
